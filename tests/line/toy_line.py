"""A line that can be judged by hand: small panels under two side lights, and a recipe whose network is a mean.

Dust is bright under side light. The network averages both channels and cells of 12 x 12 px, with the printed mark
left out; a panel is a reject where a cell is brighter than any good one's.
"""

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import signers

from engines import recipe as recipes
from engines.recipe import Channel, Limits, Promise, Resize, ScoreStatistics, Training
from pipeline.bench.storm import free_port
from pipeline.keys import signer_key
from pipeline.signatures import sign

FRAME_PX, INPUT_PX, CELL_PX = 96, 32, 4
CHANNELS = ("dark_left_surface", "dark_right_surface")
LIMIT, LOWEST = 56 / 255, 30 / 255  # good panels lie at 44 grey levels, dust 21 and more above, an empty field at 10
TAKT_MS, EXPOSURE_MS = 120, 10
Table = dict[str, Any]


def write_recipe(folder: Path, channels: tuple[str, ...] = CHANNELS, **changes: Any) -> str:
    """Write a recipe for `channels`, signed; returns its hash. `changes` replace facts of the manifest."""
    folder.mkdir(parents=True)
    _write_network(folder / "network.onnx", len(channels))
    statistics = ScoreStatistics(panels=20, mean=0.17, std=0.003, minimum=0.16, median=0.17, maximum=0.18)
    promise = Promise(rate=0.1, confidence=0.9)
    facts = {
        "product": "toy",
        "channels": tuple(Channel(name=name, light=name) for name in channels),
        "geometry": Resize(height=INPUT_PX, width=INPUT_PX),
        "dtype": "uint8",
        "method": "toy",
        "settings": {},
        "training": Training(panels=20, held_out=20, seed=0, teacher="none"),
        "limits": Limits(image=LIMIT, pixel=LIMIT, low=LOWEST, min_area_px=1, promise=promise, statistics=statistics),
    }
    written = recipes.write(folder, facts | changes)
    sign(written, signer_key(signers.folder()), "toy teacher")
    return written.hash


def _write_network(path: Path, channels: int) -> None:
    """map = mean over channels and cells, 0 under the mark; score = its maximum."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    cells = INPUT_PX // CELL_PX
    seen = np.ones((cells, cells), np.float32)
    seen[:2, :4] = 0  # the mark: 24 x 48 px of 96 x 96
    nodes = [
        helper.make_node("ReduceMean", ["panels", "channel_axis"], ["mean"], keepdims=1),
        helper.make_node("AveragePool", ["mean"], ["pooled"], kernel_shape=[CELL_PX] * 2, strides=[CELL_PX] * 2),
        helper.make_node("Squeeze", ["pooled", "channel_axis"], ["cells"]),
        helper.make_node("Mul", ["cells", "seen"], ["map"]),
        helper.make_node("ReduceMax", ["map", "map_axes"], ["score"], keepdims=0),
    ]
    constants = [
        helper.make_tensor("channel_axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("map_axes", TensorProto.INT64, [2], [1, 2]),
        numpy_helper.from_array(seen, "seen"),
    ]
    value, number = helper.make_tensor_value_info, TensorProto.FLOAT
    shown = [value("map", number, ["batch", cells, cells]), value("score", number, ["batch"])]
    given = [value("panels", number, ["batch", channels, INPUT_PX, INPUT_PX])]
    graph = helper.make_graph(nodes, "mean", given, shown, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def camera(name: str, channels: tuple[str, ...] = CHANNELS, **settings: Any) -> Table:
    """A simulated camera's table; `settings` are added to its own."""
    plan = {"kinds": ["dust"], "defect_scale": 3.0, "pool_good": 3, "defective_share": 0.3}
    look = {"height": FRAME_PX, "width": FRAME_PX}
    own = {"plan": plan, "look": look, "exposure_ms": 2.0} | settings
    return {"name": name, "kind": "simulated", "channels": list(channels), "slot_mb": 0.05, "settings": own}


def timing(takt_ms: int) -> Table:
    """Windows as wide as a conveyor of this takt allows."""
    least_ms = takt_ms * 3 // 4
    return {"takt_ms": least_ms, "early_ms": least_ms - EXPOSURE_MS - 1, "exposure_ms": EXPOSURE_MS}


def line_table(folder: Path, recipe: Path, **changes: Any) -> Table:
    """A line file's content: everything of its own below `folder`; `changes` are merged into its tables."""
    port = free_port()
    takt_ms = (changes.get("conveyor") or {}).get("settings", {}).get("takt_ms", TAKT_MS)
    table: Table = {
        "format": 1,
        "station": "toy",
        "state_dir": str(folder / "state"),
        "allow": ["unproven_recipe"],
        "recipes": {"1": str(recipe)},
        "signing": {"trusted": [str(signers.folder())]},
        "engine": {"threads": 1, "max_batch": 8},
        "timing": timing(takt_ms) | {"window_ms": 800, "ack_ms": 300},
        "cameras": [camera("top")],
        "plc": {"kind": "modbus", "settings": {"port": port}},
        "conveyor": {"settings": {"takt_ms": takt_ms, "window_ms": 800}},
        "bus": {"outcomes": f"tcp://127.0.0.1:{free_port()}"},
        "metrics": {"enabled": False},
    }
    return merged(table, changes)


def merged(table: Table, changes: Table) -> Table:
    """`table` with `changes` put into it, table by table; None takes a key away."""
    found = dict(table)
    for key, value in changes.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = merged(found[key], value)
        else:
            found[key] = value
    return found


def toml(value: Any) -> str:
    """A value as TOML, tables inline."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(part)}" for key, part in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(part) for part in value) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def write_line(folder: Path, recipe: Path, **changes: Any) -> Path:
    """A line file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "line.toml"
    table = line_table(folder, recipe, **changes)
    path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in table.items()))
    return path


def free_range(count: int) -> int:
    """The first of so many free ports, below those that the kernel draws from."""
    for first in range(21_000, 30_000, count):
        if all(map(is_free, range(first, first + count))):
            return first
    raise AssertionError("no free ports")


def is_free(port: int) -> bool:
    """True where nobody listens on that port of the loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0

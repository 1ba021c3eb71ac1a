"""How long a runtime takes from host memory to scores in host memory; for `gpu_steps.py`."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

BATCHES, RUNS, WARM_UP = (1, 8, 64), 400, 30
PANEL = (3000, 4096)  # height, width


def batches(name: str, folder: Path, kind: str, precision: str, kept: Path) -> Iterator[dict[str, Any]]:
    """Two paths from host memory to scores in host memory: batches of float32, and raw frames past the host."""
    import numpy as np

    from engines import recipe as recipes
    from engines.build import derive, source_of
    from engines.detector import INPUT, _feeding
    from engines.feeding import Batch
    from engines.runtimes import load
    from engines.station import IDENTITY

    made = recipes.load(folder)
    graph = derive(made, kind, precision)
    source = replace(source_of(made, kind, precision, graph), kept=kept)
    floor = _floor(folder / "network.onnx", precision)
    with load(kind, precision).open_network(source, precision, 2, max(BATCHES)) as network:
        ((_, spec),) = network.inputs.items()
        frames = np.random.default_rng(0).integers(0, 255, (max(BATCHES), *spec.shape), dtype=np.uint8)
        batch = frames.astype(np.float32) / np.float32(255)
        with _feeding(network, made.manifest, IDENTITY, kept) as feed:
            for size in BATCHES:
                rows = {"network": name, "runtime": kind, "precision": precision, "batch": size}
                ms = _times(lambda size=size: network.run({INPUT: batch[:size]}))
                yield rows | {"path": "batch"} | _figures(ms, size, spec.shape, floor(size, 4))
                if feed is None:
                    continue
                feed.pin(frames)
                ms = _times(lambda size=size: _past_the_host(feed, frames[:size], Batch))
                yield rows | {"path": "frames"} | _figures(ms, size, spec.shape, floor(size, 1))


def _past_the_host(feed: Any, frames: Any, batch: Any) -> None:
    pieces = [feed.pieces(each) for each in frames]
    feed.finish(feed.start(batch([(each, 0, row) for row, each in enumerate(pieces)])))
    feed.release(pieces)


def tiles(name: str, folder: Path, kind: str, precision: str, kept: Path) -> Iterator[dict[str, Any]]:
    """Whole panels in tiles: raw frames to finding, as the inspector does it behind the integrity checks."""
    import numpy as np

    from engines import recipe as recipes
    from engines.build import derive
    from engines.detector import open_detector

    made = recipes.load(folder)
    shape = (len(made.manifest.channels), *PANEL)
    panel = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    more = [panel] if precision == "int8" else []
    graph = derive(made, kind, precision, more)
    with open_detector(made, kind, precision, 2, 4, derived=graph, proving=False, kept=kept) as detector:
        detector.pin(panel)
        ms = _times(lambda: detector.inspect([panel]), runs=100)
    yield {"network": name, "runtime": kind, "precision": precision, "batch": 1, "path": "panel"} | _figures(
        ms, 1, shape, None
    )


def _times(run: Callable[[], object], runs: int = RUNS, most_s: float = 6.0) -> list[float]:
    """Milliseconds of each run behind a warm-up; fewer where they take long."""
    began, taken = time.perf_counter(), []
    for _ in range(WARM_UP):
        run()
        if time.perf_counter() - began > most_s / 3:
            break
    while not taken or (len(taken) < runs and time.perf_counter() - began < most_s):
        start = time.perf_counter()
        run()
        taken.append(1000 * (time.perf_counter() - start))
    return taken


def _figures(ms: Sequence[float], batch: int, shape: Sequence[int], floor_ms: float | None) -> dict[str, Any]:
    import numpy as np

    shares = {"median": 0.5, "p90": 0.9, "p99": 0.99} | ({"p999": 0.999} if len(ms) >= 10_000 else {})
    found = {name: float(np.quantile(ms, share)) for name, share in shares.items()} | {"max": max(ms)}
    rate = 1000 * batch / found["median"]
    ratio = found["median"] / floor_ms if floor_ms else None
    known = {"runs": len(ms), "panels_per_s": rate, "pixels_per_s": rate * shape[1] * shape[2]}
    return {"ms": found, **known, "floor_ms": floor_ms, "ratio": ratio}


def _floor(network: Path, precision: str) -> Callable[[int, int], float | None]:
    """Least milliseconds by batch size and bytes of an input value, from this card's measured rates."""
    try:
        from engines.floors import Floors

        known = json.loads((Path(os.environ["TAKT_GPU_CHECK"]) / "floors.json").read_text())
        rates = Floors(**known)
        operations, values, weights, entry = _work(network)
    except Exception:  # without rates or onnx there is no floor, and the times are told all the same
        return lambda batch, width: None
    width = {"fp32": 4, "int8": 1}.get(precision, 2)
    rate = precision if precision in rates.multiply else "fp16"
    return lambda batch, across: rates.least_ms(
        batch * operations, width * (batch * values + weights), rate, batch * entry * across
    )


def _work(network: Path) -> tuple[int, int, int, int]:
    """Of one row: operations of the convolutions, values that they read and write, weights, and values that enter."""
    import onnx
    from onnx import numpy_helper, shape_inference

    model = onnx.load(network)
    del model.graph.value_info[:]  # shapes with an open batch, in which patches are counted too
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        each.name: [side.dim_value or 1 for side in each.type.tensor_type.shape.dim]
        for each in (*graph.input, *graph.value_info, *graph.output)
    }
    weights = {each.name: numpy_helper.to_array(each).shape for each in graph.initializer}
    operations = values = held = 0
    for node in graph.node:
        if node.op_type != "Conv" or node.input[1] not in weights or node.output[0] not in shapes:
            continue
        kernel, out = weights[node.input[1]], shapes[node.output[0]]
        operations += 2 * _product(kernel[1:]) * _product(out[1:]) * out[0]
        values += _product(out) + _product(shapes.get(node.input[0], [0]))
        held += _product(kernel)
    return operations, values, held, _product(shapes[graph.input[0].name])


def _product(sides: Sequence[int]) -> int:
    found = 1
    for side in sides:
        found *= side
    return found

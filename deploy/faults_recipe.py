"""Makes the recipe of `takt bench faults`, pipeline/bench/recipe: a network that a person can recompute by hand.

The map is the weighted mean of the four channels over cells of 8 x 8 px, 0 under the printed mark; the score is its
maximum. Dust is bright under side light; an empty field is dark everywhere and falls below the lowest plausible score.
Golden panels and integrity limits are of panels drawn from other seeds, seen by the run's own cameras.
usage: .venv/bin/python deploy/faults_recipe.py OUT   (needs the extra [teach] for the package onnx)
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines import recipe as recipes
from engines.integrity import learn
from engines.recipe import Channel, Golden, Limits, Promise, Resize, ScoreStatistics, Training
from pipeline.bench.storm import CAMERAS, CHANNELS, FRAME_PX, LOOK, PLAN
from pipeline.cameras.simulated import Settings, SimulatedCamera
from pipeline.simulation import watermark
from pipeline.simulation.plan import Plan

CELL_PX = 8
WEIGHTS = (0.4, 0.1, 0.4, 0.1)  # the pixel focus sees a ghost of dust
LIMIT, LOWEST = 52 / 255, 30 / 255
SEED, GOOD, DEFECTIVE = 1001, 600, 40


def network() -> onnx.ModelProto:
    """map = weighted mean over channels and cells, 0 under the mark; score = its maximum."""
    cells = FRAME_PX // CELL_PX
    seen = np.ones((cells, cells), np.float32)
    seen[: watermark.HEIGHT_PX // CELL_PX, : watermark.WIDTH_PX // CELL_PX] = 0
    weights = np.array(WEIGHTS, np.float32).reshape(1, len(CHANNELS), 1, 1)
    nodes = [
        helper.make_node("Mul", ["panels", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "channel_axis"], ["mean"], keepdims=1),
        helper.make_node("AveragePool", ["mean"], ["pooled"], kernel_shape=[CELL_PX] * 2, strides=[CELL_PX] * 2),
        helper.make_node("Squeeze", ["pooled", "channel_axis"], ["cells"]),
        helper.make_node("Mul", ["cells", "seen"], ["map"]),
        helper.make_node("ReduceMax", ["map", "map_axes"], ["score"], keepdims=0),
    ]
    constants = [
        numpy_helper.from_array(weights, "weights"),
        helper.make_tensor("channel_axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("map_axes", TensorProto.INT64, [2], [1, 2]),
        numpy_helper.from_array(seen, "seen"),
    ]
    value, number = helper.make_tensor_value_info, TensorProto.FLOAT
    given = [value("panels", number, ["batch", len(CHANNELS), FRAME_PX, FRAME_PX])]
    shown = [value("map", number, ["batch", cells, cells]), value("score", number, ["batch"])]
    graph = helper.make_graph(nodes, "mean", given, shown, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


class Pulseless:
    """A trigger wire that nobody pulses."""

    def wait(self, timeout_ms: float) -> None:
        return None

    def drain(self) -> None:
        pass


def eyes(plan: Plan) -> list[SimulatedCamera]:
    """The run's cameras before another plan."""
    settings = Settings(wire=Path("unused"), plan=plan, look=LOOK)
    return [SimulatedCamera(settings, channels, Pulseless()) for channels in CAMERAS.values()]


def pictured(cameras: list[SimulatedCamera], index: int) -> NDArray[np.uint8]:
    """A panel as the cameras see it [C, H, W], marks and noise included."""
    frames = np.empty((len(CHANNELS), FRAME_PX, FRAME_PX), np.uint8)
    rows = iter(frames)
    for camera, channels in zip(cameras, CAMERAS.values(), strict=True):
        for channel in range(len(channels)):
            camera.picture(index, channel, next(rows))
    return frames


def main(out: Path) -> None:
    """Write the recipe and say how far good and defective panels lie from the limit."""
    out.mkdir(parents=True)
    onnx.save(network(), out / recipes.NETWORK)
    session = onnxruntime.InferenceSession(out / recipes.NETWORK)
    plan = PLAN.model_copy(update={"seed": SEED, "pool_good": GOOD, "pool_defective": DEFECTIVE})
    cameras, golden = eyes(plan), []
    for index in range(800):
        defective, frames = plan.panel(index).kind is not None, pictured(cameras, index)
        maps, scores = session.run(["map", "score"], {"panels": frames[None].astype(np.float32) / 255})
        name = f"{'defect' if defective else 'good'}_{index:03}"
        golden.append(Golden(name, defective, frames, float(scores[0]), np.asarray(maps[0])))
    good = sorted((one for one in golden if not one.defective), key=lambda one: one.score)
    bad = sorted((one for one in golden if one.defective), key=lambda one: one.score)
    print(*(round(one.score * 255, 1) for one in (good[0], good[-1], bad[0], bad[-1])))  # noqa: T201
    if good[-1].score > LIMIT or bad[0].score <= LIMIT or good[0].score < LOWEST:
        sys.exit("the limits do not part good panels from defective ones")
    recipes.write_golden(out, (*good[-8:], *bad[:8]))
    integrity = learn(one.frames for one in good)
    recipes.write(out, facts(np.array([one.score for one in good])) | {"integrity": integrity})


def facts(scores: NDArray[np.float64]) -> dict[str, object]:
    """The manifest, without the files."""
    statistics = ScoreStatistics(
        panels=len(scores),
        mean=float(scores.mean()),
        std=float(scores.std()),
        minimum=float(scores.min()),
        median=float(np.median(scores)),
        maximum=float(scores.max()),
    )
    promise = Promise(rate=0.1, confidence=0.9)
    return {
        "product": "fault storm",
        "channels": tuple(Channel(name=name, light=name) for name in CHANNELS),
        "geometry": Resize(height=FRAME_PX, width=FRAME_PX),
        "dtype": "uint8",
        "method": "by hand",
        "settings": {},
        "training": Training(panels=len(scores), held_out=len(scores), seed=SEED, teacher="none"),
        "limits": Limits(image=LIMIT, pixel=LIMIT, low=LOWEST, min_area_px=1, promise=promise, statistics=statistics),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))

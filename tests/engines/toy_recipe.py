"""A recipe whose network can be computed by hand: the map is the mean over channels and 4x4 cells, the score its
maximum."""

from pathlib import Path

from engines.recipe import Channel, Limits, Promise, Resize, ScoreStatistics, Training

SIZE = 32


def write_network(path: Path, channels: int, size: int = SIZE) -> None:
    import onnx
    from onnx import TensorProto, helper

    cells = size // 4
    nodes = [
        helper.make_node("ReduceMean", ["panels", "channel_axis"], ["mean"], keepdims=1),
        helper.make_node("AveragePool", ["mean"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Squeeze", ["pooled", "channel_axis"], ["map"]),
        helper.make_node("ReduceMax", ["map", "map_axes"], ["score"], keepdims=0),
    ]
    axes = [
        helper.make_tensor("channel_axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("map_axes", TensorProto.INT64, [2], [1, 2]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "mean",
        [value("panels", TensorProto.FLOAT, ["batch", channels, size, size])],
        [value("map", TensorProto.FLOAT, ["batch", cells, cells]), value("score", TensorProto.FLOAT, ["batch"])],
        axes,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)


def limits(image: float = 0.5, low: float = 0.0, pixel: float = 0.5) -> Limits:
    statistics = ScoreStatistics(panels=20, mean=0.2, std=0.05, minimum=0.1, median=0.2, maximum=0.3)
    promise = Promise(rate=0.1, confidence=0.9)
    return Limits(image=image, pixel=pixel, low=low, min_area_px=1, promise=promise, statistics=statistics)


def facts(channels: int) -> dict:
    return {
        "product": "toy",
        "channels": tuple(Channel(name=f"c{index}", light=f"c{index}") for index in range(channels)),
        "geometry": Resize(height=SIZE, width=SIZE),
        "dtype": "uint8",
        "method": "toy",
        "settings": {},
        "training": Training(panels=20, held_out=20, seed=0, teacher="none"),
        "limits": limits(),
    }

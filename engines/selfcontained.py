"""Does an ONNX graph hold all its values itself? Runtimes look for the others beside the process, where nobody checks.

The file is walked as protobuf writes it (varints, and lengths with what is inside), so that no library is needed.
"""

from collections.abc import Iterator

from engines.errors import EngineError

MODEL, GRAPH, FUNCTION, TRAINING = "ModelProto", "GraphProto", "FunctionProto", "TrainingInfoProto"
NODE, ATTRIBUTE, TENSOR, SPARSE = "NodeProto", "AttributeProto", "TensorProto", "SparseTensorProto"
INSIDE = {  # kind of message -> number of a field -> kind of message in it; only what leads to a tensor
    MODEL: {7: GRAPH, 20: TRAINING, 25: FUNCTION},
    GRAPH: {1: NODE, 5: TENSOR, 15: SPARSE},
    FUNCTION: {7: NODE, 11: ATTRIBUTE},
    TRAINING: {1: GRAPH, 2: GRAPH},
    NODE: {5: ATTRIBUTE},
    ATTRIBUTE: {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE},
    SPARSE: {1: TENSOR, 2: TENSOR},
    TENSOR: {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # of a tensor
VARINT, EIGHT, LENGTH, FOUR = 0, 1, 2, 5


def check(network: bytes, name: str) -> None:
    """Raise where a value of the graph lies in another file, or the file cannot be walked to its end.

    Raises:
        EngineError: which of the two.
    """
    try:
        held = _holds_all(network)
    except (ValueError, IndexError):
        raise EngineError(f"{name}: is no whole ONNX file; teach again") from None
    if not held:
        raise EngineError(f"{name}: has values in another file, which nobody has verified; export it in one file")


def _holds_all(network: bytes) -> bool:
    waiting = [(MODEL, memoryview(network))]
    while waiting:
        kind, message = waiting.pop()
        for field, value in _fields(message):
            if kind == TENSOR and (field == EXTERNAL_DATA or (field == DATA_LOCATION and value != 0)):
                return False
            if (inner := INSIDE[kind].get(field)) and isinstance(value, memoryview):
                waiting.append((inner, value))
    return True


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers of the fields, with what is in them."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == VARINT:
            value, at = _varint(message, at)
        else:
            size, at = _varint(message, at) if wire == LENGTH else ({EIGHT: 8, FOUR: 4}.get(wire, -1), at)
            if not 0 <= size <= len(message) - at:
                raise ValueError("a field ends outside of its message")
            value, at = message[at : at + size], at + size
        yield tag >> 3, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number, and where the next one begins."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ValueError("a number of more than ten bytes")

"""An ONNX graph compiled by TensorRT or TensorRT-RTX; their Python modules have the same class names.

Networks are strongly typed: what is computed in which precision stands in the graph. TensorRT-RTX compiles without a
card; TensorRT measures on the card that it compiles for, and keeps what it measured in a timing cache. `trt` is the
library's module throughout.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from engines.errors import EngineError
from engines.keeping import keep_proven, proven
from engines.runtimes import Source

REVISION = 1  # of how networks are compiled: counts up when the same graph gives another plan
SMALL = 2  # rows: a panel and its golden defect, the usual batch of a line, have a profile of their own


@dataclass(frozen=True)
class Plan:
    """A compiled network. `fresh`: it was not found in the cache."""

    content: bytes
    fresh: bool


def profiles(max_batch: int) -> tuple[tuple[int, int], ...]:
    """Smallest and largest batch of each optimisation profile; the largest of each is what it is tuned for."""
    if max_batch <= SMALL:
        return ((1, max_batch),)
    return (1, SMALL), (SMALL + 1, max_batch)


def obtained(trt: Any, library: str, source: Source, max_batch: int, card: str) -> Plan:
    """The plan of `source`, from the cache where it was compiled by the same library for the same card.

    Raises:
        EngineError: the graph is damaged, or the library cannot compile it.
    """
    if source.kept is None:
        return Plan(compiled(trt, source, max_batch, {}), True)
    path = source.kept / "plans" / f"{digest(source, library, card, max_batch)}.plan"
    known = proven(path)
    if known is not None:
        return Plan(known, False)
    timing = source.kept / "plans" / f"{_short(f'{library} {card}')}.timing"
    measured = {"timing": proven(timing) or b""}
    content = compiled(trt, source, max_batch, measured)
    keep_proven(path, content)
    if measured["timing"]:
        keep_proven(timing, measured["timing"])
    return Plan(content, True)


def digest(source: Source, library: str, card: str, max_batch: int) -> str:
    """A name for what is compiled of a graph by this library for this card."""
    made_of = {"graph": sha256(source.network).hexdigest(), "library": library, "card": card}
    return _short(json.dumps(made_of | {"batch": max_batch, "revision": REVISION}, sort_keys=True))


def compiled(trt: Any, source: Source, max_batch: int, measured: dict[str, bytes]) -> bytes:
    """The plan. `measured` may hold a timing cache under "timing", and holds the new one afterwards.

    Raises:
        EngineError: the graph is damaged, or the library cannot compile it.
    """
    log = log_of(trt)
    builder = trt.Builder(log)
    if builder is None:
        raise EngineError(f"{source.name}: {log.said('the library does not start')}")
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, source, network, log)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    for low, high in profiles(max_batch):
        config.add_optimization_profile(_profile(builder, network, low, high))
    cache = config.create_timing_cache(measured.get("timing", b"")) if measures(trt) else None
    if cache is not None:
        config.set_timing_cache(cache, False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{source.name}: {trt.__name__} cannot compile it: {log.said('it does not say why')}")
    if cache is not None:
        measured["timing"] = bytes(cache.serialize())
    return bytes(plan)


def measures(trt: Any) -> bool:
    """Whether the library chooses kernels by timing them; TensorRT-RTX does not."""
    return trt.__name__ == "tensorrt"


def log_of(trt: Any) -> Any:
    """A listener that keeps what the library complains of, instead of printing it."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.lines.append(message)

        def said(self, otherwise: str) -> str:
            """The first complaint, which is the cause of the others."""
            return cleaned(self.lines[0]) if self.lines else otherwise

    return Log()


def cleaned(text: str) -> str:
    """One line without the names of the library's own files."""
    line = " ".join(text.split())
    for opening, closing in (("[", "]"), ("(", ")")):
        if line.startswith(opening) and closing in line:
            line = line.partition(closing)[2].strip(" :")
    return line or text.strip()


def _parse(trt: Any, source: Source, network: Any, log: Any) -> None:
    if not source.network:
        raise EngineError(f"{source.name}: there is no graph in it; copy the recipe again")
    parser = trt.OnnxParser(network, log)
    if not parser.parse(source.network):
        errors = [parser.get_error(number) for number in range(parser.num_errors)]
        raise EngineError(f"{source.name}: {trt.__name__} cannot read it: {_first(errors, log)}")
    if network.num_inputs != 1 or network.num_outputs == 0:
        raise EngineError(f"{source.name}: has {network.num_inputs} inputs and {network.num_outputs} outputs")


def _first(errors: Sequence[Any], log: Any) -> str:
    if not errors:
        return log.said("it does not say why")
    error = errors[0]
    node = error.node_operator() or error.node_name()
    return f"{node + ': ' if node else ''}{cleaned(error.desc())}"


def _profile(builder: Any, network: Any, low: int, high: int) -> Any:
    profile, entry = builder.create_optimization_profile(), network.get_input(0)
    shape = tuple(entry.shape)[1:]
    if any(side < 1 for side in shape):
        raise EngineError(f"{entry.name}: shape {tuple(entry.shape)} is open behind the batch; teach again")
    profile.set_shape(entry.name, (low, *shape), (high, *shape), (high, *shape))
    return profile


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]

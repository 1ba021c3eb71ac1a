"""Function blocks that were read, running: a call is one cycle of a PLC.

A value out of its type's range is an error when it is assigned, because PLCs disagree on what becomes of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

BITS = {"BOOL": 1, "WORD": 16, "DWORD": 32}
NUMBERS = {"UINT": 16, "UDINT": 32}
BLOCKS = {
    "TON": {"IN": "BOOL", "PT": "TIME", "Q": "BOOL", "ET": "TIME"},
    "R_TRIG": {"CLK": "BOOL", "Q": "BOOL"},
}


class StructuredTextError(Exception):
    """The text is not in the subset, or breaks its rules while it runs."""


@dataclass(frozen=True)
class Array:
    low: int
    high: int
    of: str


Kind = str | Array


@dataclass
class Variable:
    name: str
    kind: Kind
    section: str
    start: Any = None
    used: bool = False


@dataclass
class FunctionBlock:
    """One FUNCTION_BLOCK, read; `run` is its body."""

    name: str
    variables: dict[str, Variable] = field(default_factory=dict)
    run: Callable[["Instance"], None] = lambda instance: None

    def constants(self) -> dict[str, int]:
        """The values under VAR CONSTANT."""
        return {v.name: v.start for v in self.variables.values() if v.section == "VAR CONSTANT"}

    def kind_of(self, name: str) -> Kind:
        return self.variables[name.upper()].kind


def fit(kind: Kind, value: Any) -> Any:
    """`value` if a variable of that type can hold it."""
    if isinstance(kind, Array):
        return list(value)
    limit = {**BITS, **NUMBERS, "TIME": 32}[kind]
    if not 0 <= value < 1 << limit:
        raise StructuredTextError(f"{value} does not fit {kind}")
    return bool(value) if kind == "BOOL" else int(value)


class Timer:
    """TON: Q once IN has been TRUE for PT."""

    def __init__(self, clock_ms: Callable[[], float]) -> None:
        self._clock_ms, self._since_ms = clock_ms, 0.0
        self.value = {"IN": False, "Q": False, "ET": 0, "PT": 0}

    def call(self, given: dict[str, Any]) -> None:
        now_ms = self._clock_ms()
        if not (self.value["IN"] and given["IN"]):
            self._since_ms = now_ms
        elapsed_ms = now_ms - self._since_ms
        self.value |= given | {"Q": given["IN"] and elapsed_ms >= given["PT"], "ET": int(min(elapsed_ms, given["PT"]))}


class Edge:
    """R_TRIG: Q for the one call in which CLK rises."""

    def __init__(self) -> None:
        self.value = {"CLK": False, "Q": False}

    def call(self, given: dict[str, Any]) -> None:
        self.value = {"CLK": given["CLK"], "Q": given["CLK"] and not self.value["CLK"]}


class Instance:
    """One function block with its values; a call is one cycle. Without power it forgets what is not RETAIN."""

    def __init__(self, blocks: dict[str, FunctionBlock], name: str, clock_ms: Callable[[], float]) -> None:
        self._blocks, self._block, self._clock_ms = blocks, blocks[name.upper()], clock_ms
        self.value: dict[str, Any] = {}
        self.power_cut()

    def power_cut(self) -> None:
        """Off and on again."""
        for variable in self._block.variables.values():
            if variable.section != "VAR RETAIN" or variable.name not in self.value:
                self.value[variable.name] = self._restarted(variable)

    def _restarted(self, variable: Variable) -> Any:
        old, kind = self.value.get(variable.name), variable.kind
        if isinstance(kind, Array) and kind.of in self._blocks:
            kept = old or [Instance(self._blocks, kind.of, self._clock_ms) for _ in range(kind.low, kind.high + 1)]
            for instance in kept:
                instance.power_cut()
            return kept
        if isinstance(kind, Array):
            return [0] * (kind.high - kind.low + 1)
        if kind in BLOCKS:
            return Timer(self._clock_ms) if kind == "TON" else Edge()
        return False if kind == "BOOL" else variable.start or 0

    def call(self, given: dict[str, Any]) -> None:
        """One cycle."""
        for name, value in given.items():
            variable = self._block.variables[name.upper()]
            by_reference = variable.section == "VAR_IN_OUT"
            self.value[variable.name] = value if by_reference else fit(variable.kind, value)
        self._block.run(self)

    def index(self, name: str, index: int) -> int:
        """The place of an array's element."""
        kind = self._block.variables[name].kind
        assert isinstance(kind, Array)
        if not kind.low <= index <= kind.high:
            raise StructuredTextError(f"{name}[{index}] is outside {kind.low} to {kind.high}")
        return index - kind.low

    def __getitem__(self, name: str) -> Any:
        return self.value[name.upper()]

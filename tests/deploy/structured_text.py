"""Reads the subset of IEC 61131-3 Structured Text that deploy/plc is written in, and checks names and types.

No compiler of a PLC: it knows no implicit conversion, no undeclared name and no nested comment, so that what passes
here uses little that tools disagree on. `structured_text_run` holds what runs.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from structured_text_run import (
    BITS,
    BLOCKS,
    NUMBERS,
    Array,
    FunctionBlock,
    Instance,
    Kind,
    StructuredTextError,
    Variable,
    fit,
)

ANY_INT = "literal"  # a whole number that fits whatever it meets
TOKEN = re.compile(
    r"(?P<space>\s+|\(\*.*?\*\))|(?P<time>T#\d+ms)|(?P<hex>16#[0-9A-F]+)|(?P<number>\d+)|(?P<name>[A-Z_]\w*)"
    r"|(?P<sign>:=|<>|<=|>=|\.\.|[-+*()\[\],;:.=<>])",
    re.IGNORECASE | re.DOTALL,
)
CONVERSION = re.compile(r"(WORD|DWORD|UINT|UDINT)_TO_(WORD|DWORD|UINT|UDINT)")


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    line: int


def read(*paths: Path) -> dict[str, FunctionBlock]:
    """The function blocks of these files; one may use those of the files before it.

    Raises:
        StructuredTextError: with file and line.
    """
    blocks: dict[str, FunctionBlock] = {}
    for path in paths:
        block = _Reader(path.name, path.read_text(), blocks).block()
        blocks[block.name.upper()] = block
    return blocks


def _tokens(name: str, text: str) -> list[Token]:
    found, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        line = text.count("\n", 0, at) + 1
        if match is None or "(*" in match.group()[2:]:
            raise StructuredTextError(f"{name}:{line}: {text[at : at + 20]!r} is not in the subset")
        if match.lastgroup != "space":
            found.append(Token(str(match.lastgroup), match.group().upper(), line))
        at = match.end()
    return [*found, Token("end", "", text.count("\n"))]


class _Reader:
    """Reads one function block into Python source, checking names and types on the way."""

    def __init__(self, file: str, text: str, blocks: dict[str, FunctionBlock]) -> None:
        self._file, self._blocks, self._tokens, self._at = file, blocks, _tokens(file, text), 0
        self._block = FunctionBlock("")
        self._lines: list[str] = []

    # --- tokens ---

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _fail(self, why: str) -> StructuredTextError:
        return StructuredTextError(f"{self._file}:{self._next.line}: {why} at {self._next.text!r}")

    def _take(self, *texts: str) -> str:
        token = self._next
        if texts and token.text not in texts:
            raise self._fail(f"expected {' or '.join(texts)}")
        self._at += 1
        return token.text

    def _took(self, *texts: str) -> str | None:
        return self._take() if self._next.text in texts else None

    # --- declarations ---

    def block(self) -> FunctionBlock:
        self._take("FUNCTION_BLOCK")
        self._block.name = self._take()
        while self._next.text in ("VAR", "VAR_INPUT", "VAR_OUTPUT", "VAR_IN_OUT"):
            self._section()
        self._statements(1, "END_FUNCTION_BLOCK")
        self._take("END_FUNCTION_BLOCK")
        if self._next.kind != "end":
            raise self._fail("text behind the end")
        unused = [v.name for v in self._block.variables.values() if not v.used and v.section != "VAR_OUTPUT"]
        if unused:
            raise StructuredTextError(f"{self._file}: declared and never used: {', '.join(unused)}")
        self._block.run = self._compiled()
        return self._block

    def _compiled(self) -> Callable[[Instance], None]:
        space: dict[str, Any] = {"fit": fit}
        exec("def run(me):\n" + "\n".join([*self._lines, "    return None"]), space)
        return space["run"]

    def _section(self) -> None:
        section = self._take()
        if more := self._took("RETAIN", "CONSTANT"):
            section += f" {more}"
        while not self._took("END_VAR"):
            name = self._take()
            self._take(":")
            kind = self._kind()
            start = self._constant(kind) if self._took(":=") else None
            self._take(";")
            if name in self._block.variables:
                raise self._fail(f"{name} is declared twice")
            self._block.variables[name] = Variable(name, kind, section, start)

    def _kind(self) -> Kind:
        if not self._took("ARRAY"):
            name = self._take()
            if name not in {*BITS, *NUMBERS, "TIME", *BLOCKS, *self._blocks}:
                raise self._fail(f"{name} is no type")
            return name
        self._take("[")
        low = int(self._take())
        self._take("..")
        high = int(self._take())
        self._take("]")
        self._take("OF")
        of = self._kind()
        assert isinstance(of, str)
        return Array(low, high, of)

    def _constant(self, kind: Kind) -> int:
        code, found = self._primary()
        self._expect(kind, found)
        return int(eval(code))

    # --- statements ---

    def _statements(self, depth: int, *ends: str) -> None:
        while self._next.text not in ends:
            if self._next.kind == "end":
                raise self._fail(f"{' or '.join(ends)} is missing")
            self._statement(depth)

    def _emit(self, depth: int, code: str) -> None:
        self._lines.append("    " * depth + code)

    def _statement(self, depth: int) -> None:
        if self._took("IF"):
            self._if(depth)
        elif self._took("FOR"):
            self._for(depth)
        else:
            target, kind = self._place()
            self._call(target, kind, depth) if self._next.text == "(" else self._assignment(target, kind, depth)
        self._take(";")

    def _assignment(self, target: str, kind: Kind, depth: int) -> None:
        self._take(":=")
        code, found = self._expression()
        self._expect(kind, found)
        self._emit(depth, f"{target} = fit({kind!r}, {code})")

    def _if(self, depth: int) -> None:
        self._emit(depth, f"if {self._condition()}:")
        self._take("THEN")
        self._emit(depth + 1, "pass")
        self._statements(depth + 1, "ELSIF", "ELSE", "END_IF")
        while self._took("ELSIF"):
            self._emit(depth, f"elif {self._condition()}:")
            self._take("THEN")
            self._statements(depth + 1, "ELSIF", "ELSE", "END_IF")
        if self._took("ELSE"):
            self._emit(depth, "else:")
            self._statements(depth + 1, "END_IF")
        self._take("END_IF")

    def _for(self, depth: int) -> None:
        target, kind = self._place()
        self._take(":=")
        first, kind_1 = self._expression()
        self._take("TO")
        last, kind_2 = self._expression()
        self._expect(kind, kind_1)
        self._expect(kind, kind_2)
        self._take("DO")
        self._emit(depth, f"for {target} in range({first}, {last} + 1):")
        self._statements(depth + 1, "END_FOR")
        self._take("END_FOR")

    def _call(self, target: str, kind: Kind, depth: int) -> None:
        """Every parameter by its name; one that is in and out gets the variable itself."""
        parameters = self._parameters(kind)
        self._take("(")
        given = []
        while True:
            name = self._take()
            if name not in parameters:
                raise self._fail(f"{kind} has no input {name}")
            self._take(":=")
            code, found = self._expression()
            self._expect(parameters[name], found)
            given.append(f"{name!r}: {code}")
            if self._take(",", ")") == ")":
                break
        if isinstance(kind, str) and kind in self._blocks and len(given) < len(parameters):
            raise self._fail(f"{kind} is not given every input")
        self._emit(depth, f"{target}.call({{{', '.join(given)}}})")

    def _parameters(self, kind: Kind) -> dict[str, Kind]:
        if isinstance(kind, Array) or kind not in {*BLOCKS, *self._blocks}:
            raise self._fail(f"{kind} cannot be called")
        if kind in BLOCKS:
            return {name: its for name, its in BLOCKS[kind].items() if name in ("IN", "PT", "CLK")}
        variables = self._blocks[kind].variables.values()
        return {v.name: v.kind for v in variables if v.section in ("VAR_INPUT", "VAR_IN_OUT")}

    # --- expressions ---

    def _expect(self, wanted: Kind, found: Kind) -> None:
        if found != wanted and not (found == ANY_INT and wanted in {*NUMBERS, "WORD", "DWORD"}):
            raise self._fail(f"{found} where {wanted} is wanted")

    def _condition(self) -> str:
        code, kind = self._expression()
        self._expect("BOOL", kind)
        return code

    def _expression(self) -> tuple[str, Kind]:
        return self._chain(0)

    LEVELS = (("OR",), ("XOR",), ("AND",), ("=", "<>"), ("<", ">", "<=", ">="), ("+", "-"), ("*", "MOD"))
    PYTHON: ClassVar = {"OR": "|", "XOR": "^", "AND": "&", "=": "==", "<>": "!=", "MOD": "%"}

    def _chain(self, level: int) -> tuple[str, Kind]:
        """Operators of one precedence, from the left."""
        if level == len(self.LEVELS):
            return self._unary()
        left, kind = self._chain(level + 1)
        while operator := self._took(*self.LEVELS[level]):
            right, other = self._chain(level + 1)
            kind = self._combined(operator, kind, other)
            left = f"({left} {self.PYTHON.get(operator, operator)} {right})"
        return left, kind

    def _combined(self, operator: str, left: Kind, right: Kind) -> Kind:
        if operator == "*" and (left, right) == ("TIME", "UINT"):
            return "TIME"
        same = right if left == ANY_INT else left
        if right not in (same, ANY_INT) or isinstance(same, Array):
            raise self._fail(f"{left} {operator} {right}")
        if operator in ("=", "<>", "<", ">", "<=", ">="):
            return "BOOL"
        if same != ANY_INT and same not in (BITS if operator in ("AND", "OR", "XOR") else NUMBERS):
            raise self._fail(f"{operator} of {same}")
        return same

    def _unary(self) -> tuple[str, Kind]:
        if not self._took("NOT"):
            return self._primary()
        code, kind = self._unary()
        self._expect("BOOL", kind)
        return f"(not {code})", "BOOL"

    def _primary(self) -> tuple[str, Kind]:
        token = self._next
        if self._took("("):
            code, kind = self._expression()
            self._take(")")
            return code, kind
        if token.kind in ("number", "hex", "time"):
            self._take()
            digits = token.text.removeprefix("16#").removeprefix("T#").removesuffix("MS")
            value = int(digits, 16 if token.kind == "hex" else 10)
            return str(value), "TIME" if token.kind == "time" else ANY_INT
        if token.text in ("TRUE", "FALSE"):
            return self._take().title(), "BOOL"
        if self._tokens[self._at + 1].text == "(":
            return self._function()
        return self._place()

    def _function(self) -> tuple[str, Kind]:
        name = self._take()
        self._take("(")
        code, kind = self._expression()
        if name in ("SHL", "SHR") and kind in BITS:
            self._take(",")
            by, _ = self._expression()
            self._take(")")
            mask = (1 << BITS[str(kind)]) - 1
            return f"(({code} {'<<' if name == 'SHL' else '>>'} {by}) & {mask})", kind
        conversion = CONVERSION.fullmatch(name)
        if conversion is None:
            raise self._fail(f"no function {name}")
        self._expect(conversion[1], kind)
        self._take(")")
        return f"fit({conversion[2]!r}, {code})", conversion[2]

    def _place(self) -> tuple[str, Kind]:
        """A variable, an array's element, or another block's output."""
        name = self._take()
        variable = self._block.variables.get(name)
        if variable is None:
            raise self._fail(f"{name} is not declared")
        variable.used = True
        code, kind = f"me.value[{name!r}]", variable.kind
        if self._took("["):
            if not isinstance(kind, Array):
                raise self._fail(f"{name} is no array")
            index, index_kind = self._expression()
            self._expect("UINT", index_kind)
            self._take("]")
            code, kind = f"{code}[me.index({name!r}, {index})]", kind.of
        if self._took("."):
            output = self._take()
            code, kind = f"{code}.value[{output!r}]", self._output(kind, output)
        return code, kind

    def _output(self, kind: Kind, name: str) -> Kind:
        if isinstance(kind, str) and kind in BLOCKS and name in BLOCKS[kind]:
            return BLOCKS[kind][name]
        variable = self._blocks[kind].variables.get(name) if isinstance(kind, str) and kind in self._blocks else None
        if variable is None or variable.section != "VAR_OUTPUT":
            raise self._fail(f"{kind} has no output {name}")
        return variable.kind

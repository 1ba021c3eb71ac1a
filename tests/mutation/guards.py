"""Every guard of a module, and the module without it: one mutant per way in which a condition can be forgotten.

A guard is whatever keeps a step from being taken: the condition of an `if`, `elif`, `while`, `case`, conditional
expression or comprehension, each operand of `and` and `or`, each side of a chained comparison, each pair of compared
tuples, each bound of `min` and `max`, each early `return` or `continue` behind other statements, and the edge of an
ordering.
"""

import ast
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

EDGES = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
Change = Callable[[ast.AST], None]


@dataclass(frozen=True)
class Mutant:
    """One module with one guard gone. `name` stays the same while the function and the guard's text do."""

    module: str
    function: str
    guard: str
    change: str
    line: int
    source: str

    @property
    def name(self) -> str:
        return f"{self.module}.{self.function}: {self.guard} -> {self.change}"


def mutants(module: str, source: str) -> list[Mutant]:
    """All mutants of a module, in the order of its lines."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    where = _functions(tree)
    found = []
    for number, node in enumerate(nodes):
        for guard, change, apply in _changes(node):
            copy = ast.parse(source)  # many times faster than a deep copy
            apply(list(ast.walk(copy))[number])
            text = ast.unparse(ast.fix_missing_locations(copy))
            found.append(Mutant(module, where.get(number, ""), guard, change, getattr(node, "lineno", 0), text))
    return sorted(_numbered(found), key=lambda mutant: mutant.line)


def _functions(tree: ast.Module) -> dict[int, str]:
    """The number of a node in the walk -> the function or method that holds it."""
    numbers = {id(node): number for number, node in enumerate(ast.walk(tree))}
    holders = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {numbers[id(inner)]: holder.name for holder in holders for inner in ast.walk(holder)}


def _numbered(found: list[Mutant]) -> Iterator[Mutant]:
    """The same change to the same text in one function, more than once: told apart by a number."""
    seen: dict[str, int] = {}
    for mutant in found:
        seen[mutant.name] = count = seen.get(mutant.name, 0) + 1
        change = f"{mutant.change} ({count})" if count > 1 else mutant.change
        yield Mutant(mutant.module, mutant.function, mutant.guard, change, mutant.line, mutant.source)


def _changes(node: ast.AST) -> Iterator[tuple[str, str, Change]]:
    """What can be forgotten at this node: the guard's text, what becomes of it, and how."""
    match node:
        case ast.If() | ast.IfExp():
            yield from _constants(node, (True, False))
            yield from _exits(node) if isinstance(node, ast.If) else ()
        case ast.While():
            yield from _constants(node, (False,))
        case ast.match_case(guard=ast.expr() as guard):
            yield ast.unparse(guard), "no guard", _set("guard", None)
            yield ast.unparse(guard), "False", _set("guard", ast.Constant(False))
        case ast.comprehension(ifs=[_, *_]):
            yield from _dropped(node, "ifs", [ast.unparse(test) for test in node.ifs])
        case ast.BoolOp():
            yield from _operands(node)
        case ast.Compare():
            yield from _comparisons(node)
        case ast.Call(func=ast.Name(id="min" | "max"), args=[_, _, *_], keywords=[]):
            yield from _bounds(node)


def _set(field: str, value: object) -> Change:
    return lambda node: setattr(node, field, value)


def _constants(node: ast.If | ast.IfExp | ast.While, values: tuple[bool, ...]) -> Iterator[tuple[str, str, Change]]:
    for value in values:
        yield ast.unparse(node.test), str(value), _set("test", ast.Constant(value))


def _exits(node: ast.If) -> Iterator[tuple[str, str, Change]]:
    """A lone `return` is forgotten where its condition is False."""
    if len(node.body) > 1 and isinstance(node.body[-1], ast.Return | ast.Continue):
        yield ast.unparse(node.test), f"no {ast.unparse(node.body[-1])}", lambda found: _pop(found, "body", -1)


def _pop(node: ast.AST, field: str, place: int) -> None:
    getattr(node, field).pop(place)


def _dropped(node: ast.AST, field: str, texts: list[str]) -> Iterator[tuple[str, str, Change]]:
    for place, text in enumerate(texts):
        yield text, "dropped", lambda found, place=place: _pop(found, field, place)


def _operands(node: ast.BoolOp) -> Iterator[tuple[str, str, Change]]:
    for place, operand in enumerate(node.values):
        yield ast.unparse(node), f"without {ast.unparse(operand)}", lambda found, place=place: _without(found, place)


def _without(node: ast.AST, place: int) -> None:
    """`and` and `or` of one operand are that operand."""
    assert isinstance(node, ast.BoolOp)
    node.values.pop(place)
    if len(node.values) == 1:
        node.values.append(deepcopy(node.values[0]))


def _comparisons(node: ast.Compare) -> Iterator[tuple[str, str, Change]]:
    text = ast.unparse(node)
    for place, operator in enumerate(node.ops):
        if type(operator) in EDGES:
            other = EDGES[type(operator)]
            yield text, f"edge {place + 1}", lambda found, place=place, other=other: _edge(found, place, other)
    if len(node.ops) == 2:
        yield text, "first comparison alone", lambda found: _keep(found, 0)
        yield text, "second comparison alone", lambda found: _keep(found, 1)
    match node:
        case ast.Compare(left=ast.Tuple(elts=[*left]), comparators=[ast.Tuple(elts=[*right])]) if len(left) == len(
            right
        ):
            for place, element in enumerate(left):
                yield text, f"without {ast.unparse(element)}", lambda found, place=place: _unpaired(found, place)


def _edge(node: ast.AST, place: int, operator: type[ast.cmpop]) -> None:
    assert isinstance(node, ast.Compare)
    node.ops[place] = operator()


def _keep(node: ast.AST, place: int) -> None:
    assert isinstance(node, ast.Compare)
    values = [node.left, *node.comparators]
    node.left, node.ops, node.comparators = values[place], [node.ops[place]], [values[place + 1]]


def _unpaired(node: ast.AST, place: int) -> None:
    assert isinstance(node, ast.Compare)
    for side in (node.left, node.comparators[0]):
        _pop(side, "elts", place)


def _bounds(node: ast.Call) -> Iterator[tuple[str, str, Change]]:
    for place, argument in enumerate(node.args):
        yield ast.unparse(node), f"without {ast.unparse(argument)}", lambda found, place=place: _unbound(found, place)


def _unbound(node: ast.AST, place: int) -> None:
    """`min(a)` wants something to iterate over."""
    assert isinstance(node, ast.Call)
    node.args.pop(place)
    if len(node.args) == 1:
        node.args.append(deepcopy(node.args[0]))

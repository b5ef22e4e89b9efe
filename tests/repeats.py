"""Lines that stand twice: statements in a row that differ in names and constants only. Lists of flags
are no logic and are left out."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

LEAST_LINES = 6


def repeats(modules: Iterable[tuple[str, str]], least: int = LEAST_LINES) -> list[tuple[str, ...]]:
    """Groups of places, "file:line", where ``least`` lines or more stand again. modules: the name
    and the text of each."""
    found: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name, text in modules:
        known: dict[ast.AST, int] = {}
        for body in _bodies(ast.parse(text)):
            shapes = [_shape(statement, known) for statement in body]
            for first, last in _windows(body, least):
                found[tuple(shapes[first : last + 1])].append(f"{name}:{body[first].lineno}")
    return sorted(tuple(places) for places in found.values() if len(places) > 1)


def _shape(node: ast.AST, known: dict[ast.AST, int]) -> int:
    """A number that two nodes share which differ in names and constants only."""
    if node not in known:
        parts: list[object] = [type(node)]
        if isinstance(node, ast.Constant):
            parts.append(type(node.value))
        elif not isinstance(node, ast.Name | ast.arg):
            parts += [_part(value, known) for _, value in ast.iter_fields(node)]
        known[node] = hash(tuple(parts))
    return known[node]


def _part(value: object, known: dict[ast.AST, int]) -> object:
    if isinstance(value, list):
        return tuple(_part(each, known) for each in value)
    return _shape(value, known) if isinstance(value, ast.AST) else value


def _bodies(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    """Statements in a row, wherever some are in functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef):
            continue
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list):
                yield [each for each in body if not _is_no_logic(each)]


def _is_no_logic(statement: ast.stmt) -> bool:
    """A docstring, or a flag in a list of flags."""
    if not isinstance(statement, ast.Expr):
        return False
    value = statement.value
    called = isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute)
    return isinstance(value, ast.Constant) or (
        called and ast.unparse(value).split("(")[0].endswith(".add_argument")
    )


def _windows(body: Sequence[ast.stmt], least: int) -> Iterator[tuple[int, int]]:
    """The first and the last statement of every shortest row of so many lines."""
    lines = [(each.end_lineno or each.lineno) - each.lineno + 1 for each in body]
    for first in range(len(body)):
        for last in range(first, len(body)):
            if sum(lines[first : last + 1]) >= least:
                yield first, last
                break

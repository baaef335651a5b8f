"""An ``if`` that compares what was computed at some lines and decides whether a step is made, as the source has it."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_SCALE = re.compile(r"(?i)scale(?!r)")
"""Text that knows the scale of a loss."""
_NOT_FINITE = re.compile(r"(?i)\b(inf|nan)\b")
"""Text that asks for what is not finite alone."""
_NUMBERS = ("get_scale", "float", "max", "min")
"""Calls that give numbers."""
_ORDERS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


class DecidedStep(NamedTuple):
    """Where a value is computed, and the ``if`` that compares it."""

    line: int
    end_line: int
    branch: int


def decided_step(text: str, lines: Collection[int], functions: Collection[str]) -> DecidedStep | None:
    """The first such ``if``.

    Args:
        text: Source of the file.
        lines: Where the values were computed.
        functions: The names of the functions that these lines are in: what calls them gets the values.
    """
    tree = parsed(text)
    scopes = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS[:2])] if tree is not None else []
    aware = _aware(tree) if tree is not None else set()
    for scope in [*scopes, *([tree] if tree is not None else [])]:
        nodes = list(_own(scope))
        steps = [node.lineno for node in nodes if isinstance(node, ast.Call) and _is_step(node)]
        if not steps:
            continue
        known = _computed(nodes, lines, functions, aware)
        for node in nodes:
            if not isinstance(node, ast.If) or not _decides(node, steps) or _NOT_FINITE.search(ast.unparse(node.test)):
                continue
            found = None if _knows(node.test, aware) else _compared(node, known, lines, functions)
            if found is not None:
                return found
    return None


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """The parts of a function or module, without those of functions within it."""
    todo = list(ast.iter_child_nodes(scope))
    while todo:
        node = todo.pop(0)
        yield node
        if not isinstance(node, _FUNCTIONS):
            todo = [*ast.iter_child_nodes(node), *todo]


def _is_step(node: ast.Call) -> bool:
    """Whether it is a call of an optimizer's or a scaler's step, by its name."""
    called = node.func
    return isinstance(called, ast.Attribute) and called.attr == "step" and "sched" not in ast.unparse(called.value)


def _decides(branch: ast.If, steps: list[int]) -> bool:
    """Whether a step stands in one of its branches, or behind it while a branch leaves."""
    end = branch.end_lineno or branch.lineno
    if any(branch.lineno <= step <= end for step in steps):
        return True
    leaves = any(
        isinstance(node, ast.Continue | ast.Return)
        for part in (*branch.body, *branch.orelse)
        for node in ast.walk(part)
    )
    return leaves and any(step > end for step in steps)


def _assigned(nodes: Iterable[ast.AST]) -> Iterator[tuple[ast.stmt, str, ast.expr]]:
    """Each name that is given a value: the statement, the name, the value."""
    for node in nodes:
        if isinstance(node, ast.Assign | ast.AugAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                are_pairs = isinstance(node.value, ast.Tuple) and len(node.value.elts) == len(names)
                values = (
                    node.value.elts if isinstance(node.value, ast.Tuple) and are_pairs else [node.value] * len(names)
                )
                yield from ((node, ast.unparse(name), value) for name, value in zip(names, values, strict=True))


def _aware(tree: ast.Module) -> set[str]:
    """The names of numbers that are computed of the scale, anywhere; what is made with it (a scaler) is none."""
    found: set[str] = set()
    for _ in range(3):
        for _, name, value in _assigned(ast.walk(tree)):
            is_number = not isinstance(value, ast.Call) or _calls(value, _NUMBERS)
            if _SCALE.search(name) or (is_number and _knows(value, found)):
                found.add(name)
    return found


def _knows(value: ast.expr, aware: set[str]) -> bool:
    return bool(_SCALE.search(ast.unparse(value)) or _names(value) & aware)


def _computed(
    nodes: list[ast.AST], lines: Collection[int], functions: Collection[str], aware: set[str]
) -> dict[str, ast.stmt]:
    """For each name that has such a value, without knowing the scale: the statement that computed it."""
    known: dict[str, ast.stmt] = {}
    for _ in range(3):
        for node, name, value in _assigned(nodes):
            if name in known or name in aware:
                continue
            if _is_at(node, lines) or _calls(value, functions):
                known[name] = node
            elif sources := sorted(_names(value) & known.keys()):
                known[name] = known[sources[0]]
    return known


def _compared(
    branch: ast.If, known: dict[str, ast.stmt], lines: Collection[int], functions: Collection[str]
) -> DecidedStep | None:
    for compare in (node for node in ast.walk(branch.test) if isinstance(node, ast.Compare)):
        if not all(isinstance(one, _ORDERS) for one in compare.ops):
            continue
        for name in sorted(_names(compare) & known.keys()):
            node = known[name]
            return DecidedStep(node.lineno, node.end_lineno or node.lineno, branch.lineno)
        if _calls(compare, functions) or (_is_at(compare, lines) and any(map(_is_call, ast.walk(compare)))):
            return DecidedStep(branch.lineno, branch.test.end_lineno or branch.lineno, branch.lineno)
    return None


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call)


def _is_at(node: ast.stmt | ast.expr, lines: Collection[int]) -> bool:
    return any(node.lineno <= line <= (node.end_lineno or node.lineno) for line in lines)


def _calls(value: ast.AST, functions: Collection[str]) -> bool:
    called = (node.func for node in ast.walk(value) if isinstance(node, ast.Call))
    return any((one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", "")) in functions for one in called)


def _names(value: ast.AST) -> set[str]:
    return {ast.unparse(node) for node in ast.walk(value) if isinstance(node, ast.Name | ast.Attribute)}

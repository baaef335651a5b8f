"""Where a loop that goes on keeps what is best so far under a second name, without a copy: ``best_model = model``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_ENDS = (ast.Break, ast.Return, ast.Raise)


class BestKept(NamedTuple):
    """One such assignment."""

    line: int
    end_line: int
    name: str
    of: str
    loop: tuple[int, int]
    """First and last line of the innermost loop around it."""


def best_kept(text: str) -> list[BestKept]:
    """Assignments of a plain name or attribute to one that is called best, under an ``if`` of a loop.

    Not where the loop gives the value's name to something else, so that each round has a thing of its own, nor where it
    ends there; nor where nothing outside the loop reads the name.
    """
    tree = parsed(text) if "best" in text.lower() else None
    return list(_found(tree)) if tree is not None else []


def _found(tree: ast.Module) -> Iterator[BestKept]:
    for loop in (node for node in ast.walk(tree) if isinstance(node, _LOOPS)):
        bound = {name for node in ast.walk(loop) for name in _bound(node)}
        for branch in _branches(loop.body):
            if any(isinstance(one, _ENDS) for one in branch):
                continue
            for one in branch:
                if not (isinstance(one, ast.Assign) and isinstance(one.value, ast.Name | ast.Attribute)):
                    continue
                name, of = ast.unparse(one.targets[0]), ast.unparse(one.value)
                is_whole = of not in bound and of.partition(".")[0] not in bound
                if "best" in name.lower() and is_whole and _is_read_outside(tree, loop, name):
                    end = loop.end_lineno or loop.lineno
                    yield BestKept(one.lineno, one.end_lineno or one.lineno, name, of, (loop.lineno, end))


def _branches(block: list[ast.stmt], is_branch: bool = False) -> Iterator[list[ast.stmt]]:
    """The blocks of the ``if`` statements of a loop, not of the loops and functions in it."""
    if is_branch:
        yield block
    for statement in block:
        if isinstance(statement, ast.If):
            yield from _branches(statement.body, True)
            yield from _branches(statement.orelse, True)
        elif isinstance(statement, ast.With | ast.Try):
            yield from _branches(statement.body, is_branch)


def _bound(node: ast.AST) -> list[str]:
    is_bound = isinstance(node, ast.Name | ast.Attribute) and not isinstance(node.ctx, ast.Load)
    return [ast.unparse(node)] if is_bound else []


def _is_read_outside(tree: ast.Module, loop: ast.stmt, name: str) -> bool:
    """Whether something outside a loop takes what a name holds, and does not load a state into it first."""
    inside = set(ast.walk(loop))
    loaded = f"{name}.load_state_dict"
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute) and node not in inside]
    names = {ast.unparse(node) for node in nodes if isinstance(node.ctx, ast.Load)}
    return name in names and loaded not in names

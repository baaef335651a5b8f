"""A statement that goes on with what each round of a loop before it gives one name: it gets the last round's alone."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import blocks_of, parsed

_ENDS = (ast.Break, ast.Return, ast.Yield, ast.YieldFrom)


class AfterLoop(NamedTuple):
    """The loop before it."""

    line: int
    end_line: int
    name: str


def after_loop(text: str, line: int) -> AfterLoop | None:
    """The loop right before a call of ``backward``, in its block, that gives a name in it another value in each round.

    None where the loop may end early, or does not go through something that its rounds use, so that the last round may
    be meant; where it calls ``backward`` itself; and where something else is in the name, or is made of what was in it.
    """
    tree = parsed(text)
    for block in _blocks(tree) if tree is not None else ():
        at = next(
            (at for at, one in enumerate(block) if _is_pass(one) and one.lineno <= line <= (one.end_lineno or 0)), -1
        )
        if at < 0:
            continue
        loops = [place for place in range(at) if isinstance(block[place], (ast.For, ast.AsyncFor))]
        if not loops:
            return None
        loop = block[loops[-1]]
        between = [node for one in block[loops[-1] + 1 : at] for node in ast.walk(one)]
        assert isinstance(loop, (ast.For, ast.AsyncFor))
        for name in (node.id for node in ast.walk(block[at]) if isinstance(node, ast.Name)):
            is_given = any(isinstance(node, ast.Name) and node.id == name for node in between)
            if not is_given and _gives_anew(loop, name):
                return AfterLoop(loop.lineno, loop.end_lineno or loop.lineno, name)
        return None
    return None


def _gives_anew(loop: ast.For | ast.AsyncFor, name: str) -> bool:
    nodes = [node for one in loop.body for node in ast.walk(one)]
    if loop.orelse or any(isinstance(node, _ENDS) for node in nodes):
        return False
    if any(isinstance(node, ast.Attribute) and node.attr in ("backward", "step") for node in nodes):
        return False
    assigned = [one for one in loop.body if isinstance(one, ast.Assign) and name in map(_id, one.targets)]
    stores = [node for node in nodes if _id(node) == name and not isinstance(getattr(node, "ctx", None), ast.Load)]
    if len(assigned) != 1 or len(stores) != 1 or any(_id(node) == name for node in ast.walk(assigned[0].value)):
        return False
    variables = {_id(node) for node in ast.walk(loop.target)} - {"", "_"}
    return any(_id(node) in variables for node in nodes)


def _is_pass(statement: ast.stmt) -> bool:
    """Whether it is a call of something's ``backward``."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "backward"


def _id(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _blocks(node: ast.stmt | ast.Module) -> list[list[ast.stmt]]:
    found = list[list[ast.stmt]]()
    todo: list[ast.stmt | ast.Module] = [node]
    while todo:
        for block in blocks_of(todo.pop()):
            found.append(block)
            todo += block
    return found

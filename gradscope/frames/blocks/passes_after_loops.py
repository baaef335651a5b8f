"""A statement that goes on with what each round of a loop before it gives one name: it gets the last round's alone."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import blocks_of, last_name, parsed

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


class ReturnedOfLastRound(NamedTuple):
    """A function that returns what the last round of a loop of its own gave a name."""

    loop: AfterLoop
    line: int
    end_line: int
    """Of the statement that gives the name another value in each round."""
    function: str
    names: frozenset[str]
    """The name, and another one of the loop that it gets its value from."""
    called: frozenset[str]
    """What the statement that makes the value calls."""
    ends: range
    """The lines of its ``return``."""


def returned_of_last_rounds(text: str) -> list[ReturnedOfLastRound]:
    """All such functions of a text, but for what returns from within the loop, or hands on what the loop put away."""
    tree, found = parsed(text), list[ReturnedOfLastRound]()
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found += _returned(node)
    return found


def _returned(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ReturnedOfLastRound]:
    ends, found = function.body[-1], list[ReturnedOfLastRound]()
    loops = [one for one in function.body if isinstance(one, (ast.For, ast.AsyncFor))]
    if not isinstance(ends, ast.Return) or ends.value is None or not loops:
        return found
    loop, names = loops[-1], {node.id for node in ast.walk(ends.value) if isinstance(node, ast.Name)}
    between = [one for one in function.body if loop.lineno < one.lineno < ends.lineno]
    for name in sorted(names):
        if any(_id(node) == name for one in between for node in ast.walk(one)) or not _gives_anew(loop, name):
            continue
        given = next(one for one in loop.body if isinstance(one, ast.Assign) and name in map(_id, one.targets))
        # (read in the loop as well, it goes on to somewhere else)
        if any(_id(node) == name for one in loop.body if one is not given for node in ast.walk(one)):
            continue
        other = _id(given.value)
        made = [one for one in loop.body if isinstance(one, ast.Assign) and other and other in map(_id, ast.walk(one))]
        calls = [node for one in (given, *made) for node in ast.walk(one) if isinstance(node, ast.Call)]
        end, known = loop.end_lineno or loop.lineno, frozenset({name, other} - {""})
        found.append(
            ReturnedOfLastRound(
                AfterLoop(loop.lineno, end, name),
                given.lineno,
                given.end_lineno or given.lineno,
                function.name,
                known,
                frozenset(last_name(call.func) for call in calls),
                range(ends.lineno, (ends.end_lineno or ends.lineno) + 1),
            )
        )
    return found


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

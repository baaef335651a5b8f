"""Where the ``backward`` of a custom Function runs what its ``forward`` was given to run: ``ctx.run(x)``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import dotted_name, parsed

_PUTS_BACK = re.compile(r"rng_state|fork_rng|set_device_states|initial_seed")


class RerunCall(NamedTuple):
    """A statement of ``backward``."""

    line: int
    end_line: int
    function: str


def puts_random_state_back(text: str, name: str, line: int) -> bool:
    """Whether a text may see to it that a Function draws the same numbers again.

    Args:
        text: Source of a file.
        name: The class of the Function, which seeds where it does; or the function that draws.
        line: Where that draws.
    """
    if _PUTS_BACK.search(text):
        return True
    tree = parsed(text)
    around = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if (isinstance(node, ast.ClassDef) and node.name == name)
        or (isinstance(node, ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or 0))
    ]
    return any("seed(" in ast.unparse(node) for node in around)


def reruns_in_backward(text: str, name: str) -> list[RerunCall]:
    """The statements in the ``backward`` of a class that call what lies on ``ctx``, or a name that was given it."""
    tree = parsed(text)
    found: list[RerunCall] = []
    for node in ast.walk(tree) if tree is not None else ():
        for method in node.body if isinstance(node, ast.ClassDef) and node.name == name else ():
            if isinstance(method, ast.FunctionDef) and method.name == "backward" and method.args.args:
                found += _calls(method, method.args.args[0].arg)
    return found


def _calls(method: ast.FunctionDef, ctx: str) -> Iterator[RerunCall]:
    statements = [node for node in ast.walk(method) if isinstance(node, ast.Assign | ast.Expr | ast.Return)]
    names = {
        target.id
        for node in statements
        if isinstance(node, ast.Assign)
        for targets, value in _pairs(node)
        if dotted_name(value).startswith(f"{ctx}.") and not dotted_name(value).endswith(".saved_tensors")
        for target in targets
        if isinstance(target, ast.Name)
    }
    for node in sorted(statements, key=lambda one: one.lineno):
        called = [dotted_name(part.func) for part in ast.walk(node) if isinstance(part, ast.Call)]
        if any(one.startswith(f"{ctx}.") or one.partition(".")[0] in names for one in called):
            yield RerunCall(node.lineno, node.end_lineno or node.lineno, method.name)


def _pairs(node: ast.Assign) -> Iterator[tuple[list[ast.expr], ast.expr]]:
    """What is assigned to what: ``f, g = ctx.f, ctx.g`` is two assignments."""
    target = node.targets[0]
    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
        yield from (([one], value) for one, value in zip(target.elts, node.value.elts, strict=False))
    else:
        yield node.targets, node.value

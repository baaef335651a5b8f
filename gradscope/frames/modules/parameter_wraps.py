"""Where a file's text makes a parameter of something: ``self.weight = nn.Parameter(flat[:12])``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed


class ParameterWrap(NamedTuple):
    """A statement that calls ``nn.Parameter``."""

    line: int
    end_line: int
    function: str
    """The function that it is in; empty at the top level."""
    attributes: frozenset[str]
    """What it names: the last parts of its targets, or the text given to ``register_parameter`` and ``setattr``."""
    is_of_new: bool
    """Whether it wraps what a function of torch's gives right there: ``nn.Parameter(torch.zeros(3))``."""


def parameter_wraps(text: str) -> list[ParameterWrap]:
    """All of a file, in no order; of a compound statement those within it."""
    tree = parsed(text) if "Parameter(" in text else None
    return [] if tree is None else list(_within(tree, ""))


def _within(node: ast.AST, function: str) -> Iterator[ParameterWrap]:
    for child in ast.iter_child_nodes(node):
        inside = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        if isinstance(child, ast.Assign | ast.AnnAssign | ast.Expr | ast.Return):
            wraps = [one for one in ast.walk(child) if isinstance(one, ast.Call) and last_name(one.func) == "Parameter"]
            if wraps:
                is_of_new = all(_is_of_torch(one) for one in wraps)
                line, end = child.lineno, child.end_lineno or child.lineno
                yield ParameterWrap(line, end, function, frozenset(_attributes(child)), is_of_new)
        else:
            yield from _within(child, inside)


def _attributes(statement: ast.Assign | ast.AnnAssign | ast.Expr | ast.Return) -> Iterator[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
    for target in targets:
        for one in target.elts if isinstance(target, ast.Tuple) else [target]:
            yield last_name(one)
    call = statement.value
    if isinstance(call, ast.Call) and last_name(call.func) in ("register_parameter", "setattr"):
        yield from (one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str))


def _is_of_torch(wrap: ast.Call) -> bool:
    value = wrap.args[0] if wrap.args else None
    func = value.func if isinstance(value, ast.Call) else None
    return isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id == "torch"

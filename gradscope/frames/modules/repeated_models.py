"""Models that a loop or a comprehension goes over and that are one: ``[make()] * 3``, an optimizer for each."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.frames.modules.repeated_items import Repeated, repeated_in
from gradscope.frames.syntax_trees import assigned_pairs, dotted_name, innermost, parsed

_Comprehension = ast.ListComp | ast.GeneratorExp | ast.DictComp
_PARAMETERS = ("parameters", "named_parameters")


def repeated_models(text: str, line: int) -> Repeated | None:
    """What made one object of the models whose parameters a line asks for in turn.

    None where the models come from elsewhere, or where names say that one is meant.
    """
    tree = parsed(text)
    if tree is None:
        return None
    listed = {name for owner in _asked(tree, line) for name in _gone_over(tree, line, owner)}
    function = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
    scopes = [tree] if any("." in name for name in listed) else [function or tree, tree]
    for scope in scopes if listed else []:
        given = [
            (node, value)
            for node in ast.walk(scope)
            if isinstance(node, ast.Assign)
            for target, value in assigned_pairs(node)
            if dotted_name(target) in listed
        ]
        if given:
            return repeated_in(tree, *given[0]) if len(given) == 1 else None
    return None


def _asked(tree: ast.Module, line: int) -> set[str]:
    """The names whose parameters are asked for at a line."""
    return {
        node.func.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and node.lineno <= line <= (node.end_lineno or node.lineno)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _PARAMETERS
        and isinstance(node.func.value, ast.Name)
    }


def _gone_over(tree: ast.Module, line: int, variable: str) -> Iterator[str]:
    """The lists of which a variable is each item, in the loop or comprehension around a line."""
    for node in ast.walk(tree):
        if isinstance(node, _Comprehension):
            rounds = [(one.target, one.iter) for one in node.generators]
        elif isinstance(node, ast.For):
            rounds = [(node.target, node.iter)]
        else:
            continue
        if not node.lineno <= line <= (node.end_lineno or node.lineno):
            continue
        for target, over in rounds:
            yield from _lists_of(target, over, variable)


def _lists_of(target: ast.expr, over: ast.expr, variable: str) -> Iterator[str]:
    called = over.func.id if isinstance(over, ast.Call) and isinstance(over.func, ast.Name) else ""
    if isinstance(target, ast.Name) and target.id == variable:
        if name := dotted_name(over):
            yield name
    elif isinstance(target, ast.Tuple) and isinstance(over, ast.Call) and called == "zip":
        for part, given in zip(target.elts, over.args, strict=False):
            yield from _lists_of(part, given, variable)
    elif isinstance(target, ast.Tuple) and isinstance(over, ast.Call) and called == "enumerate" and over.args:
        yield from _lists_of(target.elts[-1], over.args[0], variable)

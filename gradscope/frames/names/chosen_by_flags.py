"""Where a text chooses the parameters that an optimizer is given by whether they require grad at that moment."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)
_FLAG = "requires_grad"


def chosen_by_flag(text: str, line: int, end_line: int) -> tuple[int, int] | None:
    """First and last line of what chooses them; None where nothing is seen that does.

    Args:
        text: Source of the file.
        line: First line of the call that makes the optimizer.
        end_line: Its last one.

    The choice is written in the call, was given a name there before, or is what a function of the file returns.
    """
    tree = parsed(text)
    if tree is None:
        return None
    makes = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.lineno == line]
    makes = [node for node in makes if (node.end_lineno or node.lineno) <= end_line]
    given = [one for node in makes for one in (*node.args, *(keyword.value for keyword in node.keywords))]
    for one in given:
        for part in _parts(tree, one, line):
            chosen = next((node for node in ast.walk(part) if isinstance(node, ast.expr) and _chooses(node)), None)
            if chosen is not None:
                return chosen.lineno, chosen.end_lineno or chosen.lineno
        loop = _filled(tree, one, line)
        if loop is not None:
            return loop
    return None


def _parts(tree: ast.Module, given: ast.expr, line: int) -> Iterator[ast.AST]:
    """An argument, what its names were given last before, and what functions that it calls return."""
    function = innermost(tree, line, *_CODE)
    names = {ast.unparse(node) for node in ast.walk(given) if isinstance(node, ast.Name | ast.Attribute)}
    stores = [
        node
        for node in ast.walk(function or tree)
        if isinstance(node, ast.Assign) and node.lineno < line and names.intersection(map(ast.unparse, node.targets))
    ]
    values = [given, *(node.value for node in sorted(stores, key=lambda node: -node.lineno)[:1])]
    yield from values
    calls = (node for value in values for node in ast.walk(value) if isinstance(node, ast.Call))
    called = {last_name(node.func) for node in calls} - {""}
    for definition in (node for node in ast.walk(tree) if isinstance(node, _CODE) and node.name in called):
        yield from (node for node in ast.walk(definition) if isinstance(node, ast.Return | ast.YieldFrom))


def _filled(tree: ast.Module, given: ast.expr, line: int) -> tuple[int, int] | None:
    """The condition under which a loop puts items into a list that is given."""
    name, function = ast.unparse(given), innermost(tree, line, *_CODE)
    for branch in (node for node in ast.walk(function or tree) if isinstance(node, ast.If) and node.lineno < line):
        if not _asks(branch.test):
            continue
        for node in (part for statement in branch.body for part in ast.walk(statement)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == f"{name}.append":
                return branch.lineno, branch.test.end_lineno or branch.lineno
    return None


def _chooses(node: ast.expr) -> bool:
    if isinstance(node, _COMPREHENSIONS):
        return any(_asks(test) for part in node.generators for test in part.ifs)
    if not isinstance(node, ast.Call) or last_name(node.func) != "filter" or not node.args:
        return False
    return isinstance(node.args[0], ast.Lambda) and _asks(node.args[0].body)


def _asks(test: ast.expr) -> bool:
    """Whether a condition is that something requires grad, alone or with others."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return any(_asks(one) for one in test.values)
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Eq | ast.Is):
        is_true = isinstance(test.comparators[0], ast.Constant) and test.comparators[0].value is True
        return is_true and _asks(test.left)
    return isinstance(test, ast.Attribute) and test.attr == _FLAG

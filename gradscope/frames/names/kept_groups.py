"""Groups of ``itertools.groupby`` that a file keeps as they are: each is empty once the next one is asked for."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.frames.syntax_trees import parsed

_TAKE_ALL = frozenset(("list", "tuple", "sorted", "dict"))


def kept_groups(text: str) -> list[tuple[int, int]]:
    """First and last lines of what goes through ``groupby`` and keeps the groups, or a generator over each.

    A comprehension, a call of ``list`` or ``dict``, or the statement of a loop that stores a group.
    """
    tree = parsed(text)
    if tree is None:
        return []
    named = {
        one.asname or one.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "itertools"
        for one in node.names
        if one.name == "groupby"
    }
    found = [place for node in ast.walk(tree) for place in _kept(node, named)]
    return sorted({(one.lineno, one.end_lineno or one.lineno) for one in found})


def _kept(node: ast.AST, named: set[str]) -> Iterator[ast.expr | ast.stmt]:
    if isinstance(node, ast.ListComp | ast.DictComp):
        loop = node.generators[0]
        group = _group(loop.target, loop.iter, named) if len(node.generators) == 1 else ""
        value = node.elt if isinstance(node, ast.ListComp) else node.value
        if group and _is_stored(value, group):
            yield node
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _TAKE_ALL and node.args:
        if _is_groupby(node.args[0], named):
            yield node
    elif isinstance(node, ast.For):
        group = _group(node.target, node.iter, named)
        for statement in node.body if group else ():
            if _stores(statement, group):
                yield statement


def _is_groupby(value: ast.expr, named: set[str]) -> bool:
    if not isinstance(value, ast.Call):
        return False
    called = ast.unparse(value.func)
    if called == "enumerate" and value.args:
        return _is_groupby(value.args[0], named)
    return called == "itertools.groupby" or called in named


def _group(target: ast.expr, value: ast.expr, named: set[str]) -> str:
    """The name that a loop gives each group of a ``groupby``; empty for other loops."""
    if not _is_groupby(value, named) or not isinstance(target, ast.Tuple) or len(target.elts) != 2:
        return ""
    inner = target.elts[1]
    inner = inner.elts[1] if isinstance(inner, ast.Tuple) and len(inner.elts) == 2 else inner
    return inner.id if isinstance(inner, ast.Name) else ""


def _is_stored(value: ast.expr, group: str) -> bool:
    """Whether a value is a group, or holds it as it is or as a generator: nothing goes through the group in it."""
    if isinstance(value, ast.Name):
        return value.id == group
    if isinstance(value, ast.GeneratorExp):
        return _is_stored(value.generators[0].iter, group)
    if isinstance(value, ast.Tuple | ast.List):
        return any(_is_stored(one, group) for one in value.elts)
    if isinstance(value, ast.Dict):
        return any(_is_stored(one, group) for one in value.values)
    is_call = isinstance(value, ast.Call) and ast.unparse(value.func) in ("map", "filter", "dict", "iter")
    if isinstance(value, ast.Call) and is_call:
        return any(_is_stored(one, group) for one in (*value.args, *(word.value for word in value.keywords)))
    return False


def _stores(statement: ast.stmt, group: str) -> bool:
    """Whether a statement puts a group into a list or under a key."""
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
        return _is_stored(statement.value, group)
    call = statement.value if isinstance(statement, ast.Expr) else None
    is_append = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "append"
    return isinstance(call, ast.Call) and is_append and any(_is_stored(one, group) for one in call.args)

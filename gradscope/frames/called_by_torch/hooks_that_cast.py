"""Pack functions of saved-tensor hooks that give whatever they are given another dtype, as a text has them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_HOOKS = "saved_tensors_hooks"
_EXACT = {"bfloat16": 256, "float16": 2048, "half": 2048}
"""Up to which whole number all are kept."""
_METHODS = ("bfloat16", "half")
_CODE = (ast.FunctionDef, ast.Lambda)


class PackCast(NamedTuple):
    """One pack function that casts, without a look at what it is given."""

    function: str
    """``<lambda>`` for one."""
    line: int
    end_line: int
    """Of the cast."""
    dtype: str
    exact: int
    """The number up to which all whole ones are kept."""


def pack_cast(text: str) -> PackCast | None:
    """The cast of the one pack function that a text gives to ``saved_tensors_hooks``; None where that is not known."""
    if _HOOKS not in text or "save_on_cpu" in text or "checkpoint(" in text:  # (which put hooks of torch in force)
        return None
    tree = parsed(text)
    given = list(_given(tree)) if tree is not None else []
    if tree is None or len(given) != 1:
        return None
    packs = [given[0]] if isinstance(given[0], ast.Lambda) else list(_named(tree, given[0]))
    if len(packs) != 1 or not packs[0].args.args:
        return None
    pack = packs[0]
    names = [one.arg for one in pack.args.args]
    argument = names[1] if names[0] in ("self", "cls") and len(names) > 1 else names[0]
    parts = [part for one in (pack.body if isinstance(pack.body, list) else [pack.body]) for part in ast.walk(one)]
    # (a look at what it is, by a branch, or in a loop or another function, may leave whole numbers alone)
    if any(isinstance(one, (ast.If, ast.IfExp, ast.BoolOp, ast.Compare, ast.Match, ast.Try, *_CODE)) for one in parts):
        return None
    for call in (one for one in parts if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute)):
        dtype = _cast_to(tree, call, argument)
        if dtype in _EXACT:
            name = "<lambda>" if isinstance(pack, ast.Lambda) else pack.name
            shown = {"half": "float16"}.get(dtype, dtype)
            return PackCast(name, call.lineno, call.end_lineno or call.lineno, shown, _EXACT[dtype])
    return None


def _given(tree: ast.Module) -> Iterator[ast.expr]:
    """What is given as the pack function: by a call, or by a class of such hooks to ``__init__`` of its base."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _last(node.func) == _HOOKS and (node.args or node.keywords):
            yield from node.args[:1] or [one.value for one in node.keywords if one.arg == "pack_hook"]
        elif isinstance(node, ast.ClassDef) and any(_last(base) == _HOOKS for base in node.bases):
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
                    yield from call.args[:1]


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _named(tree: ast.Module, given: ast.expr) -> Iterator[ast.FunctionDef | ast.Lambda]:
    name, classes = _last(given), [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    methods = {id(one) for owner in classes for one in owner.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            if isinstance(given, ast.Attribute) == (id(node) in methods):
                yield node
        elif isinstance(node, ast.Assign) and [_last(target) for target in node.targets] == [name]:
            yield from [node.value] if isinstance(node.value, ast.Lambda) else ()


def _cast_to(tree: ast.Module, call: ast.Call, argument: str) -> str:
    """The dtype to which a call casts a function's argument, or what was detached from it; empty for another call."""
    func = call.func
    owner = func.value if isinstance(func, ast.Attribute) else func
    while (
        isinstance(owner, ast.Call) and isinstance(owner.func, ast.Attribute) and owner.func.attr in ("detach", "cpu")
    ):
        owner = owner.func.value
    if not isinstance(func, ast.Attribute) or not isinstance(owner, ast.Name) or owner.id != argument:
        return ""
    if func.attr in _METHODS:
        return func.attr
    if func.attr not in ("to", "type"):
        return ""
    for one in (*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "dtype")):
        dtypes = {_literal(value) for value in _values(tree, call, one)}
        if len(dtypes) == 1 and "" not in dtypes:
            return dtypes.pop()
    return ""


def _literal(value: ast.expr | None) -> str:
    """The name of a dtype that stands there; empty for anything else."""
    is_one = isinstance(value, ast.Attribute) and ast.unparse(value.value) == "torch"
    return _last(value) if is_one and value is not None and _last(value) in _EXACT else ""


def _values(tree: ast.Module, call: ast.Call, dtype: ast.expr) -> Iterator[ast.expr | None]:
    """What an expression for a dtype may be: itself, or what a name, an attribute, or an argument is given."""
    if _literal(dtype):
        yield dtype
    elif isinstance(dtype, ast.Attribute) and isinstance(dtype.value, ast.Name) and dtype.value.id == "self":
        owners = [one for one in ast.walk(tree) if isinstance(one, ast.ClassDef) and _holds(one, call)]
        for owner in owners:
            own = {id(one) for one in owner.body}
            for node in ast.walk(owner):
                wanted = dtype.attr if id(node) in own else f"self.{dtype.attr}"
                for target, value in _pairs(node):
                    if ast.unparse(target) == wanted:
                        yield from _of_argument(tree, owner, value)
    elif isinstance(dtype, ast.Name):
        makers = [one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef) and _holds(one, call)]
        for maker in makers:
            if dtype.id in [one.arg for one in maker.args.args]:
                yield from _given_to(tree, maker.name, maker.args, dtype.id, skipped=0)
        yield from (value for node in ast.walk(tree) for target, value in _pairs(node) if _last(target) == dtype.id)


def _holds(whole: ast.AST, part: ast.AST) -> bool:
    return any(node is part for node in ast.walk(whole))


def _pairs(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """The targets of an assignment, each with what it is given."""
    if isinstance(node, ast.AnnAssign):
        yield node.target, node.value
    if not isinstance(node, ast.Assign):
        return
    for target in node.targets:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            yield from zip(target.elts, node.value.elts, strict=False)
        elif isinstance(target, ast.Tuple):
            yield from ((one, None) for one in target.elts)
        else:
            yield target, node.value


def _of_argument(tree: ast.Module, owner: ast.ClassDef, value: ast.expr | None) -> Iterator[ast.expr | None]:
    """What an attribute is given: by each call of its class, where it is an argument of ``__init__``."""
    made = [one for one in owner.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
    if made and isinstance(value, ast.Name) and value.id in [one.arg for one in made[0].args.args]:
        yield from _given_to(tree, owner.name, made[0].args, value.id, skipped=1)
    else:
        yield value


def _given_to(
    tree: ast.Module, name: str, arguments: ast.arguments, argument: str, *, skipped: int
) -> Iterator[ast.expr | None]:
    """What each call of a name gives an argument, or its default."""
    names = [one.arg for one in arguments.args]
    defaults = dict(zip(names[::-1], arguments.defaults[::-1], strict=False))
    place = names.index(argument) - skipped
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and _last(call.func) == name:
            by_name = [one.value for one in call.keywords if one.arg == argument]
            found = by_name or call.args[place : place + 1]
            yield found[0] if found else defaults.get(argument)

"""Optimizers that the constructor of a class has made before a constructor, of it or of a subclass, makes a layer."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_CONSTRUCTOR = "__init__"


class MadeInside(NamedTuple):
    """Where a constructor that makes a layer has the optimizer made before that."""

    calls: tuple[tuple[int, int], ...]
    """First and last line of the calls on the way, the one that is nearest to the optimizer first; none where the
    constructor makes it itself."""


def made_inside(text: str, optimizer: int, layer: int) -> MadeInside | None:
    """How the constructor with the line of a layer comes to make an optimizer at another line.

    It makes it itself, calls a method of its class that does, or the constructor of a base class, which does either.
    None where the text does not show that.
    """
    tree = parsed(text)
    if tree is None:
        return None
    constructor, owner = _method_of(tree, layer)
    method, base = _method_of(tree, optimizer)
    if constructor is None or owner is None or method is None or base is None or constructor.name != _CONSTRUCTOR:
        return None
    around = [owner, *_bases(tree, owner)]
    if base not in around:
        return None
    calls = []
    if method.name != _CONSTRUCTOR:
        caller = next((one for one in around if (init := _constructor(one)) and _calls_method(init, method.name)), None)
        init = _constructor(caller) if caller is not None else None
        if caller is None or init is None:
            return None
        calls.append(_calls_method(init, method.name)[0])
        base, method = caller, init
    if base is not owner:
        handed = _calls_base(constructor)
        if not handed or handed[0].lineno >= layer:
            return None
        calls.append(handed[0])
    elif (calls[0].lineno if calls else optimizer) >= layer:
        return None
    return MadeInside(tuple((one.lineno, one.end_lineno or one.lineno) for one in calls))


def _method_of(tree: ast.Module, line: int) -> tuple[ast.FunctionDef | None, ast.ClassDef | None]:
    """The innermost function around a line, and the class of which it is a method."""
    function, owner = innermost(tree, line, ast.FunctionDef), innermost(tree, line, ast.ClassDef)
    if not isinstance(function, ast.FunctionDef) or not isinstance(owner, ast.ClassDef) or function not in owner.body:
        return None, None
    return function, owner


def _bases(tree: ast.Module, owner: ast.ClassDef) -> list[ast.ClassDef]:
    """The classes of the file that a class is derived from, the nearest first."""
    known = {one.name: one for one in ast.walk(tree) if isinstance(one, ast.ClassDef)}
    found: list[ast.ClassDef] = []
    todo = [owner]
    while todo:
        for base in todo.pop(0).bases:
            one = known.get(last_name(base))
            if one is not None and one not in found and one is not owner:
                found.append(one)
                todo.append(one)
    return found


def _constructor(owner: ast.ClassDef) -> ast.FunctionDef | None:
    return next((one for one in owner.body if isinstance(one, ast.FunctionDef) and one.name == _CONSTRUCTOR), None)


def _calls_method(function: ast.FunctionDef, name: str) -> list[ast.Call]:
    """Calls of a method of the object itself."""
    return [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == name
        and isinstance(node.func.value, ast.Name)
    ]


def _calls_base(constructor: ast.FunctionDef) -> list[ast.Call]:
    """Calls of the constructor of a base class: ``super().__init__()``, ``Base.__init__(self)``."""
    return [
        node
        for node in ast.walk(constructor)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == _CONSTRUCTOR
    ]

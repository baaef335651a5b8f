"""The one statement by which the classes of a module store an attribute, and the loops that go through one."""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import Literal, NamedTuple

from gradscope.frames.syntax_trees import parsed

_LISTS = ("list", "tuple", "set", "deque")
_DICTS = ("dict", "defaultdict", "OrderedDict")


class StoreOfAttribute(NamedTuple):
    """That statement."""

    line: int
    end_line: int
    gives: Literal["list", "dict", ""]
    """What it makes there, by its text: a list (a tuple, a set), a dict; empty for anything else."""


@lru_cache(maxsize=64)
def store_of_attribute(text: str, owner: str, attribute: str) -> StoreOfAttribute | None:
    """Where ``self.attribute`` is stored by a module's class, one that it is derived from, or one derived from it.

    None where several statements store it, or none does, and for a class without a ``forward``: its attributes are
    registered nowhere, and nobody thinks that they are.

    Args:
        text: Source of the file.
        owner: Name of the class.
        attribute: Name of the attribute.
    """
    tree = parsed(text)
    family = _family(tree, owner) if tree is not None else []
    members = [member for one in family for member in one.body]
    is_module = any(one.bases for one in family) and any(
        isinstance(member, ast.FunctionDef) and member.name == "forward" for member in members
    )
    stores = [
        node
        for member in members
        for node in ast.walk(member)
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == f"self.{attribute}" for target in node.targets)
    ]
    if not is_module or len(stores) != 1:
        return None
    return StoreOfAttribute(stores[0].lineno, stores[0].end_lineno or stores[0].lineno, _gives(stores[0].value))


def attribute_gone_through(text: str, line: int, variable: str) -> str:
    """The attribute of ``self`` from which the loop around a line takes the items for its variable; empty for none.

    Args:
        text: Source of the file.
        line: Where the variable is read.
        variable: The loop's.
    """
    tree = parsed(text)
    loops = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.For)
        and node.lineno <= line <= (node.end_lineno or 0)
        and any(isinstance(one, ast.Name) and one.id == variable for one in ast.walk(node.target))
    ]
    if not loops:
        return ""
    over = ast.walk(max(loops, key=lambda node: node.lineno).iter)
    read = {one.attr for one in over if isinstance(one, ast.Attribute) and ast.unparse(one.value) == "self"}
    return read.pop() if len(read) == 1 else ""


def _family(tree: ast.Module, owner: str) -> list[ast.ClassDef]:
    """The classes of a file from which one is derived, itself, and those that are derived from it."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    bases = {one.name: {ast.unparse(base) for base in one.bases} for one in classes}
    above, below = {owner}, {owner}
    while new := {base for one in above for base in bases.get(one, ())} - above:
        above |= new
    while new := {name for name, own in bases.items() if not own.isdisjoint(below)} - below:
        below |= new
    return [one for one in classes if one.name in above | below]


def _gives(value: ast.expr) -> Literal["list", "dict", ""]:
    called = ast.unparse(value.func).rpartition(".")[2] if isinstance(value, ast.Call) else ""
    if isinstance(value, (ast.List, ast.ListComp, ast.Tuple)) or called in _LISTS:
        return "list"
    return "dict" if isinstance(value, (ast.Dict, ast.DictComp)) or called in _DICTS else ""

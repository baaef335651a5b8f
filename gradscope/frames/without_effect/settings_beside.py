"""Where a text sets, reads or names a setting of an optimizer: ``optimizer.lr = 0.1``, ``{"learning_rate": 0.1}``."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_GROUPS = "param_groups"


class StoredAttribute(NamedTuple):
    """A statement that sets an attribute."""

    line: int
    end_line: int
    owner: str
    """The last name of what it is set on: ``optimizer`` for ``self.optimizer``."""


def attributes_stored(text: str, name: str) -> list[StoredAttribute]:
    """The statements that set an attribute of a name, on anything but ``self``."""
    tree = parsed(text) if name in text else None
    found = []
    for node in ast.walk(tree) if tree is not None else ():
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        owners = [one.value for one in targets if isinstance(one, ast.Attribute) and one.attr == name]
        if isinstance(node, ast.Call) and last_name(node.func) == "setattr" and len(node.args) == 3:
            named = node.args[1]
            owners += [node.args[0]] if isinstance(named, ast.Constant) and named.value == name else []
        if isinstance(node, ast.stmt | ast.expr):
            lines = node.lineno, node.end_lineno or node.lineno
            found += [StoredAttribute(*lines, last_name(one)) for one in owners if last_name(one) not in ("", "self")]
    return found


def is_read(text: str, owner: str, name: str) -> bool:
    """Whether an attribute is read for more than to be printed, of something of this last name."""
    tree = parsed(text) if name in text else None
    if tree is None:
        return False
    printed = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and last_name(node.func) == "print"
        for part in ast.walk(node)
    }
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == name
        and isinstance(node.ctx, ast.Load)
        and last_name(node.value) == owner
        and id(node) not in printed
        for node in ast.walk(tree)
    )


def names_beside_groups(text: str, name: str) -> bool:
    """Whether a text that looks into the groups of an optimizer has a name elsewhere than where a dict is made."""
    tree = parsed(text) if _GROUPS in text and name in text else None
    if tree is None:
        return False
    keys = {id(key) for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys}
    return any(
        isinstance(node, ast.Constant) and node.value == name and id(node) not in keys for node in ast.walk(tree)
    )


def keys_given(text: str, name: str) -> list[int]:
    """The lines where a dict is made with a key of a name and one for parameters, or where it is put into one."""
    tree = parsed(text) if name in text else None
    found, put = [], []
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Dict):
            keys = {key.value: key.lineno for key in node.keys if isinstance(key, ast.Constant)}
            if name in keys and "params" in keys:
                found.append(keys[name])
        elif isinstance(node, ast.Call) and last_name(node.func) == "dict":
            given = {one.arg: one.value.lineno for one in node.keywords if one.arg}
            if name in given and "params" in given:
                found.append(given[name])
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            key = node.targets[0].slice
            if isinstance(key, ast.Constant) and key.value == name:
                put.append(node.lineno)
    return found or put

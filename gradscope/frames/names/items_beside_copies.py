"""Items of a dict that are what an attribute holds itself, where other items of the dict are copies.

``{"count": self.count, "average": {k: v.clone() for …}}`` is meant to keep the values of the moment: the copies say so.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_COPIES = ("clone", "deepcopy")
_READS = ("get", "pop")


class ItemBesideCopies(NamedTuple):
    """One item."""

    key: str
    value: str
    """As the text has it: ``self.count``."""
    line: int
    end_line: int
    function: str
    """The innermost one that it is in; empty for none."""
    copied: tuple[range, ...]
    """The lines of the items that are copies."""

    @property
    def attribute(self) -> str:
        """The last part of what is kept: under that name it is put back."""
        return self.value.rpartition(".")[2]


class _DictItem(NamedTuple):
    key: str
    value: ast.expr


def items_beside_copies(text: str) -> Iterator[ItemBesideCopies]:
    """All of a file."""
    tree = parsed(text) if any(f"{name}(" in text for name in _COPIES) else None
    if tree is None:
        return
    for function, items in _dicts(tree):
        copied = tuple(_lines(item.value) for item in items if _is_copy(item.value))
        for item in items if copied else ():
            if isinstance(item.value, ast.Attribute | ast.Name) and item.key:
                lines = _lines(item.value)
                yield ItemBesideCopies(item.key, ast.unparse(item.value), lines[0], lines[-1], function, copied)


def lines_that_put_back(text: str, item: ItemBesideCopies) -> list[range]:
    """The statements that give the name of an attribute, or its memory, what a dict has under the key of an item."""
    tree, found = parsed(text), list[range]()
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.Call) and last_name(node.func) == "copy_" and node.args:
            target, value = getattr(node.func, "value", node.func), node.args[0]
            if isinstance(target, ast.Attribute) and target.attr == "data":
                target = target.value
        else:
            continue
        if last_name(target) == item.attribute and any(_reads(part, item.key) for part in ast.walk(value)):
            found.append(_lines(node))
    return found


def _dicts(tree: ast.Module) -> Iterator[tuple[str, list[_DictItem]]]:
    """The dicts that a text writes out, with what is put into them by name in the same function."""
    stack: list[tuple[str, list[ast.stmt]]] = [("", tree.body)]
    while stack:
        function, body = stack.pop()
        named: dict[str, list[_DictItem]] = {}
        used = set[ast.expr]()
        todo: list[ast.AST] = list(reversed(body))
        while todo:
            node = todo.pop()
            if isinstance(node, ast.ClassDef):
                todo += reversed(node.body)
                continue
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                stack.append((node.name, node.body))
                continue
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                target, items = node.targets[0], _items(node.value)
                if items:
                    used.add(node.value)
                    named.setdefault(ast.unparse(target), []).extend(items)
                elif isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                    key = target.slice.value
                    item = _DictItem(key if isinstance(key, str) else "", node.value)
                    named.setdefault(ast.unparse(target.value), []).append(item)
            elif isinstance(node, ast.expr) and node not in used and (items := _items(node)):
                yield function, items
            todo += reversed(list(ast.iter_child_nodes(node)))
        yield from ((function, items) for items in named.values())


def _items(value: ast.expr) -> list[_DictItem]:
    """Those of a dict that is written out."""
    if isinstance(value, ast.Dict):
        return [
            _DictItem(key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else "", one)
            for key, one in zip(value.keys, value.values, strict=True)
        ]
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "dict":
        return [_DictItem(one.arg or "", one.value) for one in value.keywords]
    return []


def _is_copy(value: ast.expr) -> bool:
    return any(isinstance(part, ast.Call) and last_name(part.func) in _COPIES for part in ast.walk(value))


def _reads(part: ast.AST, key: str) -> bool:
    """``state["count"]``, ``state.get("count")``."""
    read: ast.expr | None = None
    if isinstance(part, ast.Subscript):
        read = part.slice
    elif isinstance(part, ast.Call) and last_name(part.func) in _READS and part.args:
        read = part.args[0]
    return isinstance(read, ast.Constant) and read.value == key


def _lines(node: ast.expr | ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)

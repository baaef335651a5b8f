"""Where a text reads what a call gave and a name holds: ``out["value"]``, ``out.value``, or a name of its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from gradscope.frames.syntax_trees import parsed

_BY_NAME = re.compile(r"getattr|__dict__|vars\(|locals\(|globals\(|asdict|(?<![\w.])(eval|exec)\(")
_ITEM = re.compile(r"([A-Za-z_][\w.]*)\[(['\"])(\w+)\2\]")
_ATTRIBUTE = re.compile(r"([A-Za-z_]\w*)\.([A-Za-z_]\w*)")
_ALL_OF_IT = ("items", "values", "keys", "update", "copy")
_ONE_OF_IT = ("get", "pop")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_PERHAPS = (ast.IfExp, ast.BoolOp, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
"""What need not run where the statement around it does."""

Use = Literal["none", "given", "maybe"]
"""None that ran anything; its function gives it to others; or there may be one."""
Ran = Callable[[int, int], bool]
"""Whether anything ran between two lines of a file."""


class HeldIn(NamedTuple):
    """A name, and the text in which it holds something."""

    name: str
    text: str
    line: int
    """A statement of the function that has the name."""


def use_of(held: HeldIn, files: list[tuple[str, Ran]]) -> Use:
    """Whether the program has a read of a name's that did not run in this run, as far as its texts tell.

    What a branch reads that was not taken may be for later; and a name that begins with ``_`` says what is thrown away.
    What is read with a name that is computed, or all at once, is not known.

    Args:
        held: A plain name, one item of a dict, or an attribute.
        files: The texts of the program, and what ran of each.
    """
    if any(_BY_NAME.search(text) for text, _ in files):
        return "maybe"
    if held.name.isidentifier():
        ran = next((one for text, one in files if text == held.text), None)
        return _use_of_name(held, ran) if ran is not None and not held.name.startswith("_") else "maybe"
    found = _ITEM.fullmatch(held.name) or _ATTRIBUTE.fullmatch(held.name)
    if found is None or found[1] in ("self", "cls") or found.groups()[-1].startswith("_"):
        return "maybe"
    return "none" if _part_is_never_used(found[1], found.groups()[-1], files) else "maybe"


def _use_of_name(held: HeldIn, ran: Ran) -> Use:
    tree = parsed(held.text)
    if tree is None:
        return "maybe"
    parents = _parents(tree)
    inside = _function_at(tree, held.line)
    is_kept = False
    for node in ast.walk(inside or tree):
        if not isinstance(node, ast.Name) or node.id != held.name:
            continue
        if inside is None and _has_its_own(node, held.name, parents):
            continue
        if isinstance(node.ctx, ast.Store):
            is_kept = True
        elif _is_given_back(node, parents):
            return "given"
        elif not _ran(node, parents, ran):
            return "maybe"
    return "none" if is_kept else "maybe"


def _part_is_never_used(base: str, part: str, files: list[tuple[str, Ran]]) -> bool:
    """At least one other part is read by its name: so it is known how the program reads them."""
    trees = [(tree, ran) for text, ran in files if (tree := parsed(text)) is not None]
    beside = {one for tree, _ in trees for one in _made_beside(tree, part)}
    items = (one for tree, _ in trees for one in _items_read(tree))
    bases = {base} | {ast.unparse(node.value) for node, name in items if not beside or name in beside}
    others = 0
    for tree, ran in trees:
        parents = _parents(tree)
        reads = dict(_items_read(tree))
        reads |= {node: node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node not in reads}
        for read, name in reads.items():
            others += name != part and ast.unparse(read.value) in bases
            if name == part and not _ran(read, parents, ran):
                return False
        for node in ast.walk(tree):
            if _reads_any_of(node, bases) or _is_told_elsewhere(node, part, parents):
                return False
    return others > 0


def _made_beside(tree: ast.Module, part: str) -> Iterator[str]:
    """The keys with which a text makes a dict that has an item of a name, that name among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            keys = [one.value for one in node.keys if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            yield from keys if part in keys else ()


def _items_read(tree: ast.Module) -> Iterator[tuple[ast.Subscript | ast.Attribute, str]]:
    """Items that a text reads by a name that it has: ``out["x"]``, ``out.get("x")``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
                yield node, node.slice.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _ONE_OF_IT:
            key = node.args[0] if node.args else None
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield node.func, key.value


def _reads_any_of(node: ast.AST, bases: set[str]) -> bool:
    """Whether a part of a text reads what an object has by names that are computed, or all of it."""
    if isinstance(node, ast.Subscript):
        is_computed = not isinstance(node.slice, ast.Constant | ast.Slice | ast.Tuple)
        return is_computed and ast.unparse(node.value) in bases
    if isinstance(node, ast.Call):
        is_all = isinstance(node.func, ast.Attribute) and node.func.attr in _ALL_OF_IT
        if is_all and isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in bases:
            return True
        spread = [one.value for one in node.keywords if one.arg is None]
        spread += [one.value for one in node.args if isinstance(one, ast.Starred)]
        return any(ast.unparse(one) in bases for one in spread)
    if isinstance(node, ast.For | ast.comprehension):
        return ast.unparse(node.iter) in bases
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple) and ast.unparse(node.value) in bases


def _is_told_elsewhere(node: ast.AST, part: str, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether a text has a part's name as a value: what reads parts by computed names may have it from there."""
    if not isinstance(node, ast.Constant) or node.value != part:
        return False
    above = parents.get(node)
    is_key = isinstance(above, ast.Dict) and node in above.keys
    is_read = isinstance(above, ast.Subscript) and above.slice is node
    if isinstance(above, ast.Call) and isinstance(above.func, ast.Attribute):
        is_read = above.func.attr in _ONE_OF_IT and above.args[:1] == [node]
    return not is_key and not is_read


def _ran(node: ast.AST, parents: dict[ast.AST, ast.AST], ran: Ran) -> bool:
    """Whether the block of statements ran that a read is in."""
    while node in parents:
        if isinstance(node, _PERHAPS):
            return False
        above = parents[node]
        if isinstance(node, ast.stmt):
            blocks = (getattr(above, field, None) for field in ("body", "orelse", "finalbody"))
            block = next((one for one in blocks if isinstance(one, list) and node in one), [node])
            return ran(block[0].lineno, block[-1].end_lineno or block[-1].lineno)
        node = above
    return False


def _is_given_back(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    while node in parents and not isinstance(node, ast.stmt):
        node = parents[node]
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
    return isinstance(node, ast.Return)


def _has_its_own(node: ast.AST, name: str, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether the function around a name has one of its own that is so called."""
    while node in parents:
        node = parents[node]
        if isinstance(node, _FUNCTIONS):
            parts = list(ast.walk(node))
            own = {one.arg for one in parts if isinstance(one, ast.arg)}
            own |= {one.id for one in parts if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
            if name in own:
                return True
    return False


def _function_at(tree: ast.Module, line: int) -> ast.AST | None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    around = [
        node for node in ast.walk(tree) if isinstance(node, kinds) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    return max(around, key=lambda node: node.lineno, default=None)


def _parents(tree: ast.Module) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}

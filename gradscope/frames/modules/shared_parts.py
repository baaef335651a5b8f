"""Where a text gives an object the parts of another one as they are: without a copy."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import lru_cache

from gradscope.frames.syntax_trees import last_name, parsed

_ADDS = ("append", "extend", "add_module", "setattr")


@lru_cache(maxsize=16)
def shared_parts(text: str, parts: frozenset[str], made: frozenset[str]) -> tuple[tuple[int, int], ...]:
    """First and last line of each such statement, in order.

    ``branch.blocks = nn.ModuleList(base.blocks[:2])``, ``self.embed = teacher.embed``,
    ``self.blocks.append(base.blocks[0])``, ``student = Student(teacher.embed)``.

    Args:
        text: Source of a file.
        parts: Names of attributes, of which a part has one.
        made: Classes of the objects that were given it.
    """
    tree = parsed(text)
    nodes = list(ast.walk(tree)) if tree is not None else []
    found = (one for one in nodes if isinstance(one, ast.Assign | ast.Call) and _shares(one, parts, made))
    return tuple(sorted({(one.lineno, one.end_lineno or one.lineno) for one in found}))


def _shares(node: ast.Assign | ast.Call, parts: Collection[str], made: Collection[str]) -> bool:
    if isinstance(node, ast.Assign):
        owners = {ast.unparse(one.value) for one in node.targets if isinstance(one, ast.Attribute)}
        return bool(owners) and any(one not in owners for one in _owners(node.value, parts))
    is_given = last_name(node.func) in (*made, *_ADDS)
    arguments = (*node.args, *(one.value for one in node.keywords)) if is_given else ()
    return any(owner != "self" for one in arguments for owner in _owners(one, parts))


def _owners(value: ast.expr, parts: Collection[str]) -> Iterator[str]:
    """Whose parts a value is, or holds: ``base`` of ``base.blocks[:2]``, ``nn.ModuleList([base.blocks[0]])``."""
    if isinstance(value, ast.Attribute):
        if value.attr in parts:
            yield ast.unparse(value.value)
    elif isinstance(value, ast.Subscript):
        yield from _owners(value.value, parts)
    elif isinstance(value, ast.List | ast.Tuple):
        for one in value.elts:
            yield from _owners(one, parts)
    elif isinstance(value, ast.Starred):
        yield from _owners(value.value, parts)
    elif isinstance(value, ast.ListComp | ast.GeneratorExp):
        is_item = isinstance(value.elt, ast.Name)
        yield from _owners(value.generators[0].iter if is_item else value.elt, parts)
    elif isinstance(value, ast.Call) and last_name(value.func) in ("ModuleList", "Sequential", "list", "tuple"):
        for one in value.args:
            yield from _owners(one, parts)

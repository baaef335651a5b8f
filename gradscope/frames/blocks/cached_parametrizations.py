"""Where a text opens ``torch.nn.utils.parametrize.cached()``, and what comes to run in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class CachedBlock(NamedTuple):
    """A statement that opens it: ``with parametrize.cached():``."""

    line: int
    end_line: int
    function: str


def cached_around(text: str, line: int) -> CachedBlock | None:
    """The one that is open when a line runs: around it, or around a call of the function that it is in.

    None where there are several, or none.
    """
    tree = parsed(text) if "parametrize" in text and "cached" in text else None
    if tree is None:
        return None
    found = [block for block, parts in _blocks(tree) if line in _lines_run(tree, parts)]
    return found[0] if len(found) == 1 else None


def _blocks(tree: ast.Module) -> Iterator[tuple[CachedBlock, list[ast.stmt]]]:
    """Each of them, with the statements in it."""
    names = _names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.With | ast.AsyncWith):
            opened = [item.context_expr for item in node.items if _opens(item.context_expr, names)]
            yield from _entered(tree, node, names)
        elif isinstance(node, _FUNCTIONS):
            opened = [decorator for decorator in node.decorator_list if _opens(decorator, names)]
        else:
            continue
        name = node.name if isinstance(node, _FUNCTIONS) else _function_of(tree, node)
        first = node.lineno if isinstance(node, ast.With | ast.AsyncWith) else 0
        for one in opened:
            yield CachedBlock(first or one.lineno, one.end_lineno or one.lineno, name), node.body


def _entered(
    tree: ast.Module, node: ast.With | ast.AsyncWith, names: set[str]
) -> Iterator[tuple[CachedBlock, list[ast.stmt]]]:
    """Those that a statement of a block leaves to the stack that the block opens: ``stack.enter_context(cached())``."""
    for number, part in enumerate(node.body):
        for one in (call for call in ast.walk(part) if isinstance(call, ast.Call)):
            if last_name(one.func) == "enter_context" and len(one.args) == 1 and _opens(one.args[0], names):
                block = CachedBlock(one.lineno, one.end_lineno or one.lineno, _function_of(tree, node))
                yield block, node.body[number + 1 :]


def _function_of(tree: ast.Module, node: ast.stmt) -> str:
    return getattr(innermost(tree, node.lineno, *_FUNCTIONS), "name", "<module>")


def _names(tree: ast.Module) -> set[str]:
    """What the text calls it."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {"cached"} | {one.asname for node in imports for one in node.names if one.name == "cached" and one.asname}


def _opens(value: ast.expr, names: set[str]) -> bool:
    if isinstance(value, ast.IfExp):
        return _opens(value.body, names) or _opens(value.orelse, names)
    return isinstance(value, ast.Call) and last_name(value.func) in names and not value.args


def _lines_run(tree: ast.Module, parts: list[ast.stmt]) -> set[int]:
    """The lines of some statements, and of the functions that they mention, directly or not."""
    functions = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]
    lines, todo, seen = set[int](), list[ast.stmt](parts), set[str]()
    while todo:
        part = todo.pop()
        lines |= set(range(part.lineno, (part.end_lineno or part.lineno) + 1))
        names = {
            node.id if isinstance(node, ast.Name) else node.attr
            for node in ast.walk(part)
            if isinstance(node, ast.Name | ast.Attribute)
        }
        todo += [one for one in functions if one.name in names - seen]
        seen |= names
    return lines

"""Where a loop puts what a name holds into a list, and then writes that very thing in place by its name.

``outs.append(h)`` at the end of a round and ``h[done] = 0`` at the beginning of the next one: between the two the name
is given nothing else. Where it is, or where the write comes before the list has the thing, the list keeps what it got.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import lru_cache

from gradscope.frames.blocks.loops_around import loops_around
from gradscope.frames.names.put_statements import Put, puts_in
from gradscope.frames.syntax_trees import innermost, last_name, parsed


@lru_cache(maxsize=256)
def written_after_put(text: str, written: int, names: frozenset[str]) -> tuple[Put, str] | None:
    """What puts it into a list before a line writes it, and by which of some names; None where nothing does.

    Where a function of the file writes what it is given, the lines that call it count as writing it.
    """
    tree = parsed(text)
    if tree is None:
        return None
    for line in (written, *_calls_of_function_around(tree, written)):
        statement = innermost(tree, line, ast.stmt)
        read = frozenset(_names_in(statement)) & names if statement is not None else frozenset()
        for first, last in reversed(loops_around(text, line)) if read else ():
            loop = next(
                (node for node in ast.walk(tree) if getattr(node, "lineno", 0) == first and _is_loop(node)), None
            )
            if loop is None:
                continue
            for put in puts_in(text):
                if first <= put.line <= last and loops_around(text, put.line)[-1:] == [(first, last)]:
                    for name in sorted(read & set(put.names)):
                        if _is_carried_on(loop, name, put, line):
                            return put, name
    return None


def _is_carried_on(loop: ast.AST, name: str, put: Put, written: int) -> bool:
    """Whether the name is a state, made anew in each round from what the round before left, and written between.

    What a round makes, puts into a list and then fills is no such thing: the list is to have what it is filled with.
    """
    given, read = _uses(loop, name)
    made = min(given - {written}, default=0)
    is_state = any(line <= made and line != written for line in read)
    return is_state and _uses(loop, put.holder)[0] <= {put.line} and _comes_next(put.line, written, given)


def _is_loop(node: ast.AST) -> bool:
    return isinstance(node, ast.For | ast.AsyncFor | ast.While)


def _comes_next(put: int, written: int, given: Collection[int]) -> bool:
    """Whether the write is reached before the name is given something else: on to the end of the loop, then on top."""
    lines = sorted({written, *given}, key=lambda line: (line <= put, line))
    return lines[0] == written


def _uses(loop: ast.AST, name: str) -> tuple[set[int], set[int]]:
    """The lines of a loop that give a name or an attribute a value, and those that read it."""
    found = [
        (isinstance(node.ctx, ast.Store), node.lineno)
        for node in ast.walk(loop)
        if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) == name
    ]
    return {line for is_stored, line in found if is_stored}, {line for is_stored, line in found if not is_stored}


def _calls_of_function_around(tree: ast.Module, line: int) -> Iterator[int]:
    """The lines that call the function around a line, where that is no method of a name that others have as well."""
    function = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
    name = getattr(function, "name", "")
    same = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
    for node in ast.walk(tree) if len(same) == 1 else ():
        if isinstance(node, ast.Call) and last_name(node.func) == name:
            yield node.lineno


def _names_in(statement: ast.stmt) -> Iterator[str]:
    """The names and attributes of a statement, of its own lines only."""
    for child in ast.iter_child_nodes(statement):
        if not isinstance(child, ast.stmt):
            yield from (ast.unparse(one) for one in ast.walk(child) if isinstance(one, ast.Name | ast.Attribute))

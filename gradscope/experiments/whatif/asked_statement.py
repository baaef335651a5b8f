"""The statement at a line, and what of it variants are about."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from gradscope.errors import UsageError
from gradscope.experiments.whatif.asked_line import AskedLine
from gradscope.experiments.whatif.undoing import GRAD_MODES, is_call_of, taken_back
from gradscope.frames.statements import dotted

What = Literal["value", "read", "stored", "undone", "region", "decorator", "block", "whole"]
_DOES_NOT = {"": "has no", "read": "does not read", "stored": "does not store"}
_PUTS = ("append", "appendleft", "add", "insert", "put")
_LISTED = 8
_LONGEST = 48
_SILENT = (ast.Pass, ast.Break, ast.Continue, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal, ast.Delete)


class AskedStatement(NamedTuple):
    """A statement, and what of it is changed."""

    statement: ast.stmt
    what: What
    """``value``: the value that it stores or returns. ``read``: an expression in it. ``stored``: names, once it has
    stored them. ``undone``: a call that may be dropped, and what that was called on. ``region``: a grad mode of a
    ``with``. ``decorator``. ``block``: a compound statement as a whole. ``whole``: a call that stands alone."""
    expressions: tuple[ast.expr, ...] = ()
    """Each place of what is changed."""
    names: tuple[str, ...] = ()
    """Of ``stored``: which."""

    @property
    def is_compound(self) -> bool:
        """Whether it holds other statements."""
        return bool(getattr(self.statement, "body", None))


def find_asked(tree: ast.Module, asked: AskedLine, file: str, lines: Sequence[str]) -> AskedStatement:
    """Find what was asked about.

    Args:
        tree: The file's.
        asked: The line and the name.
        file: The file's name, for people.
        lines: Its source.

    Raises:
        UsageError: There is no statement, or more than one thing that may be meant.
    """
    at_line = [statement for statement in _statements(tree) if _covers(statement, asked.line)]
    if not at_line:
        raise UsageError(f"line {asked.line} of {file} has no statement", _nearest(tree, asked.line, lines))
    if asked.name:
        having = [statement for statement in at_line if _found(statement, asked)]
        if not having:
            what = f"{_DOES_NOT[asked.side]} {asked.name}"
            hint = "what may be asked: " + askable(asked.line, at_line)
            raise UsageError(f"line {asked.line} of {file} {what}", hint)
        at_line = having
    simple = [statement for statement in at_line if not hasattr(statement, "body")]
    chosen = simple or at_line
    if len(chosen) > 1:
        hint = "what may be asked: " + askable(asked.line, chosen)
        if asked.name:
            hint = f"{asked.line}:={asked.name} is what is read, {asked.line}:{asked.name}= what is stored"
        raise UsageError(f"line {asked.line} of {file} has {len(chosen)} statements", hint)
    statement = chosen[0]
    return _named(statement, asked, file) if asked.name else _default(statement, asked, file)


def parts_of(statement: ast.stmt) -> Iterator[ast.AST]:
    """The nodes of a statement; of a compound one only those of its head."""
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop(0)
        yield node
        inside = [child for child in ast.iter_child_nodes(node) if not isinstance(child, (ast.ExceptHandler,))]
        todo[:0] = [child for child in inside if not isinstance(child, ast.stmt) or node is not statement]


def read_names(statement: ast.stmt) -> list[str]:
    """Names and dotted names that a statement reads, each once."""
    chains: dict[str, None] = {}
    for node in parts_of(statement):
        name = dotted(node) if isinstance(node, (ast.Name, ast.Attribute)) else None
        if name is not None and isinstance(node.ctx, ast.Load):  # type: ignore[attr-defined]
            chains[name] = None
    return list(chains)


def stored_names(statement: ast.stmt) -> list[str]:
    """Names that a statement stores by ``=``, each once; also in a tuple."""
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
        targets = [statement.target]
    found: dict[str, None] = {}
    for target in targets:
        for node in ast.walk(target):
            name = dotted(node) if isinstance(node, (ast.Name, ast.Attribute)) else None
            if name is not None and isinstance(node.ctx, ast.Store):  # type: ignore[attr-defined]
                found[name] = None
    return list(found)


def value_of(statement: ast.stmt) -> ast.expr | None:
    """What a statement stores or returns."""
    if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return)):
        return statement.value
    return None


def undone_in(statement: ast.stmt) -> list[ast.expr]:
    """Calls in a statement that may be dropped, the outermost of a chain."""
    found: list[ast.expr] = []
    inside: set[ast.AST] = set()
    for node in parts_of(statement):
        if isinstance(node, ast.expr) and node not in inside and taken_back(node) is not None:
            found.append(node)
            inside.update(_chain(node))
    return found


def _chain(node: ast.expr) -> Iterator[ast.expr]:
    """The calls of a chain behind the outermost one: ``x.detach()`` in ``x.detach().clone()``."""
    inner = taken_back(node, once=True)
    while inner is not None:
        yield inner
        inner = taken_back(inner, once=True)


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.stmt))


def _covers(statement: ast.stmt, line: int) -> bool:
    first = statement.lineno
    body: list[ast.stmt] = getattr(statement, "body", [])
    if not body:
        return first <= line <= (statement.end_lineno or first)
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    first = min([first, *(one.lineno for one in decorators)])
    last = max(statement.lineno, body[0].lineno - 1)
    parts = (node for node in parts_of(statement) if node is not statement)
    end = max((getattr(node, "end_lineno", None) or 0 for node in parts), default=last)
    return first <= line <= max(min(last, end), statement.lineno)


def _nearest(tree: ast.Module, line: int, lines: Sequence[str]) -> str:
    if line > len(lines):
        return f"it has {len(lines)} lines"
    firsts = sorted({statement.lineno for statement in _statements(tree)}, key=lambda first: (abs(first - line), first))
    return f"the nearest is at line {firsts[0]}: {lines[firsts[0] - 1].strip()}" if firsts else "it has none"


def _found(statement: ast.stmt, asked: AskedLine) -> list[ast.expr]:
    """The places in a statement where what was named stands, read or stored; where a side is meant, of that."""
    found = [
        node
        for node in parts_of(statement)
        if isinstance(node, ast.expr) and type(node) is not ast.Constant and ast.unparse(node) == asked.name
    ]
    if not asked.side:
        return found
    return [node for node in found if isinstance(getattr(node, "ctx", None), ast.Store) == (asked.side == "stored")]


def _named(statement: ast.stmt, asked: AskedLine, file: str) -> AskedStatement:
    places = _found(statement, asked)
    read = tuple(node for node in places if not isinstance(getattr(node, "ctx", None), ast.Store))
    is_stored = asked.name in stored_names(statement)
    if read and is_stored and not asked.side:
        hint = f"{asked.line}:={asked.name} is what it reads, {asked.line}:{asked.name}= what it stores"
        raise UsageError(f"line {asked.line} of {file} reads and stores {asked.name}", hint)
    if is_stored and asked.side != "read":
        return AskedStatement(statement, "stored", names=(asked.name,))
    if not read:
        raise UsageError(f"{asked.name} at line {asked.line} of {file} is no expression that is read, or name that =")
    head = _head(statement, read)
    if head is not None:
        return head
    if len(read) == 1 and taken_back(read[0]) is not None:
        return AskedStatement(statement, "undone", read)
    wrapped = [one for one in undone_in(statement) if _is_in(taken_back(one), read)]
    if len(wrapped) == 1 and len(read) == 1:
        return AskedStatement(statement, "undone", (wrapped[0],))
    return AskedStatement(statement, "read", read)


def _head(statement: ast.stmt, places: Sequence[ast.expr]) -> AskedStatement | None:
    """A region or a decorator that was named."""
    if isinstance(statement, (ast.With, ast.AsyncWith)):
        items = [item.context_expr for item in statement.items]
        if all(place in items for place in places):
            return AskedStatement(statement, "region", tuple(places))
    if all(place in getattr(statement, "decorator_list", ()) for place in places):
        return AskedStatement(statement, "decorator", tuple(places))
    return None


def _is_in(node: ast.expr | None, places: Sequence[ast.expr]) -> bool:
    return any(node is place for place in places)


def _default(statement: ast.stmt, asked: AskedLine, file: str) -> AskedStatement:
    if isinstance(statement, (ast.With, ast.AsyncWith)):
        modes = [item.context_expr for item in statement.items if is_call_of(item.context_expr, GRAD_MODES)]
        if modes:
            return AskedStatement(statement, "region", tuple(modes))
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    modes = [one for one in decorators if is_call_of(one, GRAD_MODES)]
    if modes:
        return AskedStatement(statement, "decorator", tuple(modes))
    is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    if is_text or isinstance(statement, (ast.ClassDef, *_SILENT)):
        raise UsageError(f"line {asked.line} of {file} has nothing that a variant could change: {_shown(statement)}")
    if getattr(statement, "body", None):
        return AskedStatement(statement, "block")
    undone = undone_in(statement)
    if len(undone) == 1:
        return AskedStatement(statement, "undone", (undone[0],))
    if len(undone) > 1:
        listed = "  ".join(f"{asked.line}:{ast.unparse(one)}" for one in undone)
        raise UsageError(f"line {asked.line} of {file} has {len(undone)} calls that may be dropped", f"which? {listed}")
    value = value_of(statement)
    if value is not None:
        return AskedStatement(statement, "value", (value,))
    if _is_put(statement):
        return AskedStatement(statement, "read", (statement.value.args[-1],))  # type: ignore[attr-defined]
    return AskedStatement(statement, "whole")


def askable(line: int, statements: Sequence[ast.stmt]) -> str:
    """What may be named in the statements of a line."""
    found: dict[str, None] = {}
    for statement in statements:
        for node in parts_of(statement):
            is_one = isinstance(node, (ast.Name, ast.Attribute, ast.Call, ast.Subscript))
            text = ast.unparse(node) if is_one else ""
            if text and len(text) <= _LONGEST:
                found[text] = None
    called = {ast.unparse(node.func) for one in statements for node in parts_of(one) if isinstance(node, ast.Call)}
    names = [f"{line}:{text}" for text in found if text not in called and text != "torch"]
    more = f"  and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ("  ".join(names[:_LISTED]) + more) or "nothing"


def _is_put(statement: ast.stmt) -> bool:
    """Whether it is a call that puts its last argument somewhere: ``losses.append(loss)``."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or not call.args or not isinstance(call.func, ast.Attribute):
        return False
    return call.func.attr in _PUTS and isinstance(call.args[-1], (ast.Name, ast.Attribute, ast.Call, ast.Subscript))


def _shown(statement: ast.stmt) -> str:
    return ast.unparse(statement).split("\n")[0]

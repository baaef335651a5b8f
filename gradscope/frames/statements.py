"""The statement around a position in a source file, and the names that it reads and stores."""

from __future__ import annotations

import ast
import sys
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed


class SourceStatement(NamedTuple):
    """One statement; a compound one stands for its header only (``for x in loader:``)."""

    line: int
    end_line: int
    col: int = 0
    end_col: int = 0
    loads: tuple[str, ...] = ()
    """Names and dotted names that it reads: ``x``, ``self.weight``."""
    stores: tuple[str, ...] = ()
    """Names and dotted names that it stores."""
    scope: int = 0
    """First line of the function that it is in; 0 for the module's."""
    moves: tuple[tuple[str, str], ...] = ()
    """Where it does nothing but give names what other names hold (``a, b = b, a``): each name, and whose it gets."""


ITEM = "[]"
"""In a stored name, what stands for any items: ``blocks[].weight`` for ``blocks[0].weight = …``."""
NO_STATEMENT = SourceStatement(0, 0)
_ANY_COLUMN = 1_000_000
END = SourceStatement(1 << 30, 1 << 30)
"""Stands for the end of a module, after all of its statements."""
_HANDED_OVER = frozenset(("get", "pop", "popleft", "setdefault"))
"""Methods of containers: what they return was there before."""
_BARE_NAMES: dict[type[ast.AST], str] = {
    ast.Lambda: "<lambda>",
    ast.GeneratorExp: "<genexpr>",
    ast.ListComp: "<listcomp>",
    ast.SetComp: "<setcomp>",
    ast.DictComp: "<dictcomp>",
}
_LONGEST = 2_000
"""Lines of the longest statement that is found from its last line."""


class Assignment(NamedTuple):
    """A call that may have made the value that is stored under a name: ``y = Square.apply(x)``."""

    function: str
    """The called function, as written: ``Square.apply``."""
    line: int
    end_line: int
    col: int
    end_col: int


@dataclass
class Source:
    """The statements of one file, found by line."""

    statements: list[SourceStatement] = field(default_factory=list)
    assigned_calls: dict[tuple[int, str], list[Assignment | None]] = field(default_factory=dict)
    """By scope and stored name, every assignment to it there; None for one whose value no call made."""
    arguments: set[tuple[int, str]] = field(default_factory=set)
    """Scopes and names of the arguments of functions."""
    functions: list[tuple[int, int]] = field(default_factory=list)
    """First and last line of every function; its first line stands for its scope, 0 for the module's."""
    functions_by_line: dict[tuple[int, str], str] = field(default_factory=dict)
    """Qualified names by first line (a decorator's, if there is one) and bare name, as code objects have them."""
    loops: list[range] = field(default_factory=list)
    """The lines of every loop."""
    _starts: list[tuple[int, int]] = field(default_factory=list)

    def at(self, line: int, col: int) -> SourceStatement:
        """The innermost statement that covers a position (column -1: any on the line)."""
        wanted = (line, col if col >= 0 else _ANY_COLUMN)
        position = bisect_right(self._starts, wanted) - 1
        while position >= 0 and line - self.statements[position].line <= _LONGEST:
            statement = self.statements[position]
            if (statement.end_line, statement.end_col) >= (line, max(col, 0)):
                return statement
            position -= 1
        return SourceStatement(line, line)

    def stored_between(self, earlier: SourceStatement, later: SourceStatement) -> tuple[str, ...]:
        """What the statements between two of one function store."""
        return tuple(dict.fromkeys(name for one in self._between(earlier, later) for name in one.stores))

    def moved_between(self, earlier: SourceStatement, later: SourceStatement) -> dict[str, str]:
        """Under which name each name's value is found after the statements between two of one function.

        Only of names that lost theirs to statements that run once on that way and do nothing else; none of a value that
        has no name any more.
        """
        holds: dict[str, str] = {}
        for one in self._between(earlier, later):
            runs_once = one.col <= min(earlier.col, later.col)
            known = dict(one.moves) if runs_once else {}
            values = {name: holds.get(known[name], known[name]) if name in known else "" for name in one.stores}
            holds.update(values)
        return {value: name for name, value in holds.items() if value in holds and value != name}

    def found_under(self, name: str, earlier: SourceStatement, later: SourceStatement) -> str:
        """The name that has at one statement what an earlier one of its function stored under a name; empty for none.

        It is another one after ``a, b = b, a`` between the two.
        """
        if not any(is_stored_by(name, one) for one in self.stored_between(earlier, later)):
            return name
        root, dot, rest = name.partition(".")
        moved = self.moved_between(earlier, later)
        return f"{moved[root]}{dot}{rest}" if root in moved else ""

    def _between(self, earlier: SourceStatement, later: SourceStatement) -> list[SourceStatement]:
        if earlier.scope != later.scope:
            return []
        if (later.line, later.col) <= (earlier.line, earlier.col):
            return self._around(earlier, later)
        if later.line <= earlier.end_line:
            return []
        first, last = (bisect_right(self._starts, (line, _ANY_COLUMN)) for line in (earlier.end_line, later.line - 1))
        return [one for one in self.statements[first:last] if one.scope == earlier.scope]

    def _around(self, earlier: SourceStatement, later: SourceStatement) -> list[SourceStatement]:
        """What runs between two statements of a loop when it begins anew: what is behind one, or before the other."""
        loop = self._loop_around(earlier, later)
        first, last = (bisect_right(self._starts, (line, -1)) for line in (loop.start, loop.stop))
        return [
            one
            for one in self.statements[first:last]
            if one.scope == earlier.scope
            and not (later.line, later.col) <= (one.line, one.col) <= (earlier.line, earlier.col)
        ]

    def _loop_around(self, earlier: SourceStatement, later: SourceStatement) -> range:
        """The lines of the innermost loop that two statements are in; none where they are in no loop together."""
        around = [lines for lines in self.loops if earlier.line in lines and later.line in lines]
        return min(around, key=len, default=range(0))

    def may_lead_to(self, earlier: SourceStatement, later: SourceStatement) -> bool:
        """Whether one call of a function may get from one of its statements to another (or to the same again)."""
        is_ahead = (later.line, later.col) > (earlier.line, earlier.col)
        return is_ahead or bool(self._loop_around(earlier, later))

    def call_assigned_to(self, name: str, after: int, before: int, col: int = 0) -> Assignment | None:
        """The call that a name was assigned from last.

        It is known where the function (or the module) has one assignment to the name, or one between the line of the
        frame's last op and the statement (its line and column) of the present one. The present statement's own is not
        it where the frame has just come to that (``h = torch.tanh(h)``; the last op's line is 0 if it was there
        before), nor where the name may come from elsewhere (an argument).
        """
        scope = max((first for first, last in self.functions if first <= before <= last), default=0)
        found = self.assigned_calls.get((scope, name)) or self.assigned_calls.get((0, name), [])
        if len(found) == 1:
            return found[0]
        end = (before, col) if after else (before + 1, 0)
        between = [call for call in found if call is not None and after <= call.line and (call.line, call.col) < end]
        if len(between) != 1 or (between[0].line == before and (scope, name) in self.arguments):
            return None
        return between[0]

    def call_stored_by(self, name: str, earlier: SourceStatement, later: SourceStatement) -> Assignment | None:
        """The call from which one statement assigned a name whose value is still known at another, later one.

        None where a statement between them assigns it too, or may have (a loop leads back to the later one), unless the
        value is found under another name then: see :meth:`found_under`.
        """
        if later.line <= earlier.end_line or not self.found_under(name, earlier, later):
            return None
        found = self.assigned_calls.get((earlier.scope, name), [])
        own = [call for call in found if call is not None and earlier.line <= call.line <= earlier.end_line]
        return own[0] if len(own) == 1 else None

    def index(self) -> None:
        """Make :meth:`at` find the statements, which are sorted."""
        self._starts = [(statement.line, statement.col) for statement in self.statements]


@lru_cache(maxsize=16)
def parse_source(text: str) -> Source:
    """Find every statement of a file, once for all who ask; a file that cannot be parsed has none."""
    tree = parsed(text)
    if tree is None:
        return Source()
    source = Source()
    todo: list[tuple[ast.AST, int, str]] = [(tree, 0, "")]
    while todo:
        node, scope, prefix = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            scope = node.lineno
            source.functions.append((node.lineno, node.end_lineno or node.lineno))
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            source.functions_by_line[first, node.name] = prefix + node.name
            prefix += f"{node.name}.<locals>."
        elif isinstance(node, ast.ClassDef):
            prefix += f"{node.name}."
        elif sys.version_info < (3, 11) and isinstance(node, ast.expr) and (name := _BARE_NAMES.get(type(node))):
            source.functions_by_line.setdefault((node.lineno, name), prefix + name)
            prefix += f"{name}.<locals>." if isinstance(node, ast.Lambda) else f"{name}."
        elif isinstance(node, ast.stmt):
            if isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
                source.loops.append(range(node.lineno, (node.end_lineno or node.lineno) + 1))
            source.statements.append(_statement(node)._replace(scope=scope))
        if isinstance(node, ast.arg):
            source.arguments.add((scope, node.arg))
        _note_assignments(node, scope, source.assigned_calls)
        todo.extend((child, scope, prefix) for child in ast.iter_child_nodes(node))
    source.statements.sort(key=lambda statement: (statement.line, statement.col, -statement.end_line))
    source.index()
    return source


def _statement(node: ast.stmt) -> SourceStatement:
    if isinstance(node, (ast.For, ast.AsyncFor)):
        parts: list[ast.AST] = [node.target, node.iter]
    elif isinstance(node, (ast.While, ast.If)):
        parts = [node.test]
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        parts = [part for item in node.items for part in (item.context_expr, item.optional_vars) if part]
    elif hasattr(node, "body"):
        return SourceStatement(node.lineno, node.lineno, node.col_offset, _ANY_COLUMN)
    else:
        parts = [node]
    ends = [(getattr(part, "end_lineno", None), getattr(part, "end_col_offset", None)) for part in parts]
    end_line, end_col = max(((line, col) for line, col in ends if line and col is not None), default=(node.lineno, 0))
    loads: dict[str, None] = {}
    stores: dict[str, None] = {}
    for part in parts:
        _names(part, loads, stores)
    if isinstance(node, ast.AugAssign):
        loads.update(stores)
    place = (node.lineno, end_line, node.col_offset, end_col)
    return SourceStatement(*place, tuple(loads), tuple(stores), moves=_moves(node))


def _moves(node: ast.stmt) -> tuple[tuple[str, str], ...]:
    if not isinstance(node, ast.Assign) or len(node.targets) != 1:
        return ()
    targets, values = (_items(part) for part in (node.targets[0], node.value))
    names = [part.id for part in (*targets, *values) if isinstance(part, ast.Name)]
    if len(targets) != len(values) or len(names) != 2 * len(targets):
        return ()
    return tuple(zip(names[: len(targets)], names[len(targets) :], strict=True))


def _items(part: ast.expr) -> list[ast.expr]:
    return part.elts if isinstance(part, (ast.Tuple, ast.List)) else [part]


def _names(part: ast.AST, loads: dict[str, None], stores: dict[str, None]) -> None:
    for node in ast.walk(part):
        if isinstance(node, (ast.Name, ast.Attribute)):
            name = dotted(node)
            is_stored = isinstance(node.ctx, ast.Store)
            if name is not None:
                (stores if is_stored else loads)[name] = None
            elif is_stored and isinstance(node, ast.Attribute):
                stores.update(dict.fromkeys(_attribute_of_item(node)))
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and (name := dotted(node.value)):
            stores[f"{name}{ITEM}"] = None  # (maybe a layer of a list of layers, whose names are others' from here on)


def _attribute_of_item(target: ast.Attribute) -> tuple[str, ...]:
    """What ``blocks[0].weight = …`` stores: that of a list, or of a module's parts; of which item may not be known."""
    steps: list[str] = []
    node: ast.AST = target
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        if isinstance(node, ast.Attribute):
            steps.append(f".{node.attr}")
        else:
            key = node.slice.value if isinstance(node.slice, ast.Constant) else None
            steps.append(f"[{key}]" if type(key) is int else ITEM)
        node = node.value
    if not isinstance(node, ast.Name):
        return ()
    if ITEM in steps:
        return (f"{node.id}{ITEM}.{target.attr}",)
    written = node.id + "".join(reversed(steps))
    return (written, written.replace("[", ".").replace("]", ""))


def is_stored_by(name: str, stored: str) -> bool:
    """Whether a store gives a name another value: it is that name, what it is a part of, or maybe it."""
    root, is_item, attribute = stored.partition(f"{ITEM}.")
    if is_item:
        return name.startswith((f"{root}.", f"{root}[")) and name.endswith(f".{attribute}")
    return name == stored or name.startswith(f"{stored}.")


def dotted(node: ast.AST) -> str | None:
    """``a.b.c`` for a chain of attributes on a name, else None."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def _note_assignments(node: ast.AST, scope: int, assigned: dict[tuple[int, str], list[Assignment | None]]) -> None:
    targets: list[ast.AST] = []
    call = None
    if isinstance(node, ast.Assign):
        targets, call = list(node.targets), _call(node.value)
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
        targets, call = [node.target], _call(node.value)
    elif isinstance(node, (ast.For, ast.AsyncFor, ast.AugAssign, ast.comprehension)):
        targets = [node.target]
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        targets = [item.optional_vars for item in node.items if item.optional_vars is not None]
    elif isinstance(node, ast.arg):
        assigned.setdefault((scope, node.arg), []).append(None)
    for target in targets:
        for name in _stored_names(target):
            assigned.setdefault((scope, name), []).append(call)


def _stored_names(target: ast.AST) -> list[str]:
    loads: dict[str, None] = {}
    stores: dict[str, None] = {}
    _names(target, loads, stores)
    return list(stores)


def _call(value: ast.expr) -> Assignment | None:
    if not isinstance(value, ast.Call) or value.end_lineno is None or value.end_col_offset is None:
        return None
    name = ast.unparse(value.func)
    if name == "getattr" or (isinstance(value.func, ast.Attribute) and value.func.attr in _HANDED_OVER):
        return None
    return Assignment(name, value.lineno, value.end_lineno, value.col_offset, value.end_col_offset)

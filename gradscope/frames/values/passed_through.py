"""What goes through a region with gradients off as it is: ``with torch.no_grad(): return tuple(h for h in hidden)``.

``no_grad`` keeps what is computed in it from being recorded; a tensor that is only handed on keeps its graph. So does
what a function hands on that detaches something else: the one of two types that it is given, the first of a tuple.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_MODES = ("no_grad", "inference_mode", "set_grad_enabled")
_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)
_CONTAINERS = ("list", "tuple", "dict", "iter", "reversed", "enumerate", "zip")
_SAME = ("items", "values", "copy", "to", "contiguous", "float", "double", "half", "cpu", "cuda")
"""Methods that give on what is in a container, or the tensor itself where it has what they ask for."""
_PUTS = ("append", "add", "extend")
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)


class PassedThrough(NamedTuple):
    """A region, and what goes through it."""

    line: int
    end_line: int
    """Of the ``with``, the decorator or the ``return``."""
    opened_at: range
    """The lines of what opens it: of a function that is decorated its first is that of the first decorator; empty of a
    ``return``."""
    names: frozenset[str]
    """The last parts of the names of what goes through, in the function and where it is called."""
    goes_to: frozenset[str]
    """Those of what takes it; with an empty one among them where that has no name."""
    called_at: frozenset[int]
    """The lines of calls in the midst of a statement, whose results have no name."""


def passed_through(text: str) -> list[PassedThrough]:
    """All such regions of a text."""
    tree = parsed(text) if any(mode in text for mode in _MODES) else None
    found: list[PassedThrough] = []
    for node in ast.walk(tree) if tree is not None else ():
        if tree is None:
            break
        if isinstance(node, ast.With) and any(_is_off(item.context_expr) for item in node.items):
            around = innermost(tree, node.lineno, *_CODE)
            through = _Through(getattr(around, "name", ""), is_function=False)
            through.read(node.body)
            last = node.items[-1].context_expr.end_lineno or node.lineno
            found.append(_region(tree, through, around, range(node.lineno, last), range(node.lineno, node.lineno + 1)))
        elif isinstance(node, _CODE):
            for decorator in filter(_is_off, node.decorator_list):
                through = _Through(node.name, is_function=True)
                through.read(node.body)
                opened_at = range(node.decorator_list[0].lineno, node.lineno + 1)
                found.append(_region(tree, through, node, range(decorator.lineno, decorator.lineno), opened_at))
    return [one for one in found if one.names and one.goes_to]


def handed_on(text: str) -> list[PassedThrough]:
    """The ``return`` of functions that detach something, and hand on by it what they are given as it is."""
    tree = parsed(text) if "detach" in text else None
    found: list[PassedThrough] = []
    for node in ast.walk(tree) if tree is not None else ():
        if tree is not None and isinstance(node, _CODE) and _detaches(node):
            given = {one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
            for statement in (one for one in ast.walk(node) if isinstance(one, ast.Return)):
                through = _Through(node.name, is_function=True)
                through.read(node.body)
                if through.of(statement.value) & given:
                    through.names.clear()
                    through.read([statement])
                    end = statement.end_lineno or statement.lineno
                    found.append(_region(tree, through, node, range(statement.lineno, end), range(0)))
    return [one for one in found if one.names and one.goes_to]


def _detaches(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(one, ast.Attribute) and one.attr in ("detach", "detach_") for one in ast.walk(function))


def _region(
    tree: ast.Module,
    through: _Through,
    around: ast.stmt | None,
    lines: range,
    opened_at: range,
) -> PassedThrough:
    names, goes_to = set(through.names), set(through.goes_to)
    calls = list(_calls(tree, around)) if through.is_returned else []
    called_at = frozenset(call.lineno for call, targets in calls if "" in targets)
    for call, targets in calls:
        names.update(*map(through.of, (*call.args, *(one.value for one in call.keywords))))
        goes_to |= targets
    return PassedThrough(lines.start, lines.stop, opened_at, frozenset(names), frozenset(goes_to), called_at)


def _is_off(opened: ast.expr) -> bool:
    return last_name(opened.func if isinstance(opened, ast.Call) else opened) in _MODES


def _calls(tree: ast.Module, function: ast.stmt | None) -> Iterator[tuple[ast.Call, set[str]]]:
    """The calls of a function from elsewhere, and the last parts of the names that take what it returns."""
    name, taken = getattr(function, "name", None), dict[int, set[str]]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            taken[id(node.value)] = set()
        elif isinstance(node, ast.Assign):
            taken[id(node.value)] = {_name_of(part) for target in node.targets for part in _parts(target)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or last_name(node.func) != name:
            continue
        if innermost(tree, node.lineno, *_CODE) is not function:
            yield node, taken.get(id(node), {""})


def _parts(target: ast.expr) -> list[ast.expr]:
    return target.elts if isinstance(target, ast.Tuple | ast.List) else [target]


def _name_of(target: ast.expr) -> str:
    return last_name(target.value if isinstance(target, ast.Subscript | ast.Starred) else target)


class _Through:
    """Reads statements for what they hand on; of names only the last parts count."""

    def __init__(self, function: str, *, is_function: bool) -> None:
        self._function = function
        self._is_function = is_function
        self._held: dict[str, set[str]] = {}
        self.names: set[str] = set()
        self.goes_to: set[str] = set()
        self.is_returned = False

    def read(self, body: list[ast.stmt]) -> None:
        """Take some statements in, in their order."""
        for statement in body:
            if isinstance(statement, ast.Return):
                returned = self.of(statement.value)
                self.names |= returned
                self.is_returned |= bool(returned)
            elif isinstance(statement, ast.Assign):
                targets: Sequence[ast.expr] = (
                    statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                )
                self._assign(targets, self.of(statement.value))
            elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
                put = statement.value.func
                if isinstance(put, ast.Attribute) and put.attr in _PUTS:
                    self._hold(put.value, set().union(*map(self.of, statement.value.args)))
            elif isinstance(statement, ast.For):
                self._hold(statement.target, self.of(statement.iter))
            for inner in ("body", "orelse"):
                if not isinstance(statement, (*_CODE, ast.ClassDef)):
                    self.read(getattr(statement, inner, []))

    def _assign(self, targets: Sequence[ast.expr], values: set[str]) -> None:
        for target in targets:
            self._hold(target, values)
            if values and (not self._is_function or isinstance(target, ast.Attribute)):
                self.names |= values
                self.goes_to |= {_name_of(part) for part in _parts(target)}

    def _hold(self, target: ast.expr, values: set[str]) -> None:
        for name in map(_name_of, _parts(target)):
            self._held[name] = self._held.get(name, set()) | values

    def of(self, value: ast.expr | None) -> set[str]:
        """What an expression hands on as it is."""
        if isinstance(value, ast.Name | ast.Attribute):
            name = last_name(value)
            return {name} | self._held.get(name, set()) if name not in ("data", "T", "mT", "real") else set()
        if isinstance(value, ast.Subscript | ast.Starred):
            return self.of(value.value)
        if isinstance(value, ast.Tuple | ast.List | ast.Set):
            return set().union(*map(self.of, value.elts))
        if isinstance(value, ast.Dict):
            return set().union(*map(self.of, value.values))
        if isinstance(value, ast.IfExp):
            return self.of(value.body) | self.of(value.orelse)
        if isinstance(value, _COMPREHENSIONS):
            for one in value.generators:
                self._hold(one.target, self.of(one.iter))
            return self.of(value.value if isinstance(value, ast.DictComp) else value.elt)
        if isinstance(value, ast.Call):
            method, name = isinstance(value.func, ast.Attribute), last_name(value.func)
            if name == self._function or (name in _CONTAINERS and not method):
                return set().union(*map(self.of, value.args))
            if isinstance(value.func, ast.Attribute) and name in _SAME:
                return self.of(value.func.value)
        return set()

"""Lists and dicts that a program's text puts things into, and neither reads nor empties anywhere.

What is called alike in several places counts as one: it is read where any of them is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import dotted_name, last_name, parsed

_PUTS = frozenset(("append", "appendleft", "add", "insert", "extend"))
_GIVES = frozenset(("setdefault", "get"))
_ASKS = frozenset(("len", "id", "isinstance", "hasattr", "print", "bool"))
"""Functions by which nothing of an item gets anywhere."""
_BY_NAME = frozenset(("getattr", "setattr", "delattr", "attrgetter"))
_CONTAINERS = frozenset(("list", "dict", "set", "deque", "defaultdict", "OrderedDict"))
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class PutThere(NamedTuple):
    """A statement that puts something there."""

    file: int
    """Position among the texts."""
    line: int
    end_line: int
    holder: str
    """As the text has it: ``self.rows``."""
    function: str
    """The function around it; empty for none."""
    values: tuple[str, ...]
    """The names of what is put there as it is, or detached, moved or copied."""


class ReadThere(NamedTuple):
    """A function that does anything else with it."""

    file: int
    function: str
    is_named: bool
    """The texts name it elsewhere, so that it may be called."""


class Container(NamedTuple):
    """A list or dict, by the last part of its names."""

    names: frozenset[str]
    puts: tuple[PutThere, ...]
    unnamed_reads: tuple[ReadThere, ...]
    """In functions that the texts name nowhere: torch may call them, or nobody does."""


@lru_cache(maxsize=4)
def unread_containers(texts: tuple[str, ...]) -> tuple[Container, ...]:
    """Those of a program."""
    trees = [parsed(text) for text in texts]
    return tuple(_Program(trees).containers()) if all(tree is not None for tree in trees) else ()


class _Program:
    def __init__(self, trees: Sequence[ast.Module | None]) -> None:
        self._trees = [tree for tree in trees if tree is not None]
        self._above = {child: node for tree in self._trees for node in ast.walk(tree) for child in _children(node)}
        self._nodes = [(number, node) for number, tree in enumerate(self._trees) for node in ast.walk(tree)]
        self._named = {last_name(node) for _, node in self._nodes if isinstance(node, ast.Name | ast.Attribute)}
        self._named |= {one.name for _, node in self._nodes if isinstance(node, ast.ImportFrom) for one in node.names}
        self._functions: dict[str, list[ast.FunctionDef | ast.AsyncFunctionDef]] = {}
        for _, node in self._nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                owner = self._above.get(node)
                is_maker = node.name == "__init__" and isinstance(owner, ast.ClassDef)
                name = owner.name if is_maker and isinstance(owner, ast.ClassDef) else node.name
                self._functions.setdefault(name, []).append(node)

    def containers(self) -> Iterator[Container]:
        puts: dict[str, list[PutThere]] = {}
        reads: dict[str, list[ReadThere]] = {}
        same: dict[str, set[str]] = {}
        for number, node in self._nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and self._is_asked_by_name(node):
                reads.setdefault(node.value, []).append(ReadThere(number, "", True))
            if not isinstance(node, ast.Name | ast.Attribute):
                continue
            name = last_name(node)
            put, also, is_read = self._use(number, node)
            if put is not None:
                puts.setdefault(name, []).append(put)
            if also:
                same.setdefault(name, set()).add(also)
                same.setdefault(also, set()).add(name)
            if is_read:
                reads.setdefault(name, []).append(self._read(number, node))
        told = set[str]()
        for name in puts:
            if name not in told:
                names = _all_of(name, same)
                told |= names
                found = [one for each in sorted(names) for one in reads.get(each, ())]
                if not any(one.is_named for one in found):
                    there = [one for each in sorted(names) for one in puts.get(each, ())]
                    yield Container(frozenset(names), tuple(there), tuple(dict.fromkeys(found)))

    def _use(self, file: int, node: ast.Name | ast.Attribute) -> tuple[PutThere | None, str, bool]:
        """What is done with it at one place: a put, another name for it, or anything else."""
        above = self._above.get(node)
        if not isinstance(node.ctx, ast.Load):
            if isinstance(above, ast.AugAssign) and isinstance(above.value, ast.List | ast.Tuple):
                return self._put(file, above, node, above.value.elts), "", False
            if isinstance(above, ast.Tuple) and isinstance(given := self._above.get(above), ast.Assign):
                above = given if isinstance(given.value, ast.Tuple) else above  # (``rows, losses = [], []``)
            is_bounded = isinstance(above, ast.Assign) and "maxlen" in ast.unparse(above.value)
            return None, "", is_bounded or not isinstance(above, ast.Assign) or self._is_begun_again(node)
        current: ast.AST = node
        while True:
            if isinstance(above, ast.Attribute) and isinstance(call := self._above.get(above), ast.Call):
                if call.func is above and above.attr in _PUTS and isinstance(self._above.get(call), ast.Expr):
                    return self._put(file, call, node, call.args[-1:]), "", False
                if call.func is above and above.attr in _GIVES:
                    current, above = call, self._above.get(call)
                    continue
            if isinstance(above, ast.Subscript) and above.value is current:
                statement = self._above.get(above)
                if isinstance(above.ctx, ast.Store) and isinstance(statement, ast.Assign):
                    values = [] if _is_empty(statement.value) else [statement.value]
                    return (self._put(file, statement, node, values) if values else None), "", False
                if isinstance(above.ctx, ast.Load):
                    current, above = above, statement
                    continue
            break
        return None, *self._handed_on(current, above, is_whole=current is node)

    def _handed_on(self, node: ast.AST, above: ast.AST | None, *, is_whole: bool) -> tuple[str, bool]:
        """Another name that it has from here, and whether it is read."""
        if isinstance(above, ast.Call) and node in above.args:
            name = last_name(above.func)
            if name in _ASKS:
                return "", False
            functions = self._functions.get(name, [])
            if is_whole and len(functions) == 1 and not any(isinstance(one, ast.Starred) for one in above.args):
                arguments = [one.arg for one in (*functions[0].args.posonlyargs, *functions[0].args.args)]
                at = above.args.index(node) + (arguments[:1] == ["self"])
                return (arguments[at], False) if at < len(arguments) else ("", True)
        if isinstance(above, ast.Compare) and node in above.comparators:
            return "", not isinstance(above.ops[0], ast.In | ast.NotIn)
        if is_whole and isinstance(above, ast.Assign) and len(above.targets) == 1:
            target = above.targets[0]
            return (last_name(target), False) if isinstance(target, ast.Name | ast.Attribute) else ("", True)
        return "", True

    def _is_begun_again(self, node: ast.AST) -> bool:
        """Whether it may be assigned more than once: by a loop, or by a function that does not make an object."""
        above = self._above.get(node)
        while above is not None:
            if isinstance(above, ast.For | ast.AsyncFor | ast.While | ast.Lambda):
                return True
            if isinstance(above, ast.FunctionDef | ast.AsyncFunctionDef):
                return above.name not in ("__init__", "__post_init__", "main") and self._calls(above.name) != 1
            above = self._above.get(above)
        return False

    def _calls(self, name: str) -> int:
        return sum(isinstance(node, ast.Call) and last_name(node.func) == name for _, node in self._nodes)

    def _put(self, file: int, at: ast.expr | ast.stmt, holder: ast.expr, values: Sequence[ast.expr]) -> PutThere:
        names = tuple(name for value in values for name in _values(value))
        end = at.end_lineno or at.lineno
        return PutThere(file, at.lineno, end, dotted_name(holder) or ast.unparse(holder), self._around(at), names)

    def _read(self, file: int, node: ast.AST) -> ReadThere:
        function = self._around(node)
        is_special = function.startswith("__") or function in ("", "<lambda>")
        return ReadThere(file, function, is_special or function in self._named)

    def _around(self, node: ast.AST) -> str:
        above = self._above.get(node)
        while above is not None and not isinstance(above, _FUNCTIONS):
            above = self._above.get(above)
        return "" if above is None else getattr(above, "name", "<lambda>")

    def _is_asked_by_name(self, node: ast.Constant) -> bool:
        above = self._above.get(node)
        return isinstance(above, ast.Call) and last_name(above.func) in _BY_NAME


def _children(node: ast.AST) -> Iterator[ast.AST]:
    return ast.iter_child_nodes(node)


def _all_of(name: str, same: dict[str, set[str]]) -> set[str]:
    """All names that something has by which it is handed on."""
    todo = [name]
    for one in todo:
        todo += [other for other in sorted(same.get(one, ())) if other not in todo]
    return set(todo)


def _is_empty(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return not value.args and last_name(value.func) in _CONTAINERS
    return isinstance(value, ast.List | ast.Dict | ast.Set) and not any(ast.iter_child_nodes(value))


def _values(value: ast.expr) -> Iterator[str]:
    """The names of what a value holds: ``out`` of ``(out.detach().cpu(), 3)``."""
    if isinstance(value, ast.Tuple | ast.List):
        for item in value.elts:
            yield from _values(item)
    elif isinstance(value, ast.Dict):
        for item in value.values:
            yield from _values(item)
    else:
        while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            value = value.func.value
        if isinstance(value, ast.Name | ast.Attribute):
            yield last_name(value)

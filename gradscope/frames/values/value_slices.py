"""The lines of a file that what an expression computes may come from: by names, through the file's own functions."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPES = (*_FUNCTIONS, ast.ClassDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_CALLED = ("forward", "__call__")
_PUTS = frozenset(("append", "extend", "add", "insert", "update", "appendleft"))
_LIMIT = 300
"""Expressions that are looked at for one question."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class _Given(NamedTuple):
    """One of the values that a name is given."""

    value: ast.expr
    statement: ast.stmt
    is_whole: bool
    """The name stands for it and for nothing of what it was given before."""


def calls_behind(text: str, line: int, source: str, names: frozenset[str]) -> list[tuple[ast.Call, frozenset[int]]]:
    """The calls of some functions whose very result an expression is, each with the lines behind its arguments.

    Args:
        text: Source of the file.
        line: Where the expression is.
        source: The expression as it stands there.
        names: Last names of the functions.

    Returns:
        None at all where one of the values that it may be is something else.
    """
    tree = _tree(text)
    found = None if tree is None else tree.expression(line, source)
    if tree is None or found is None:
        return []
    results = tree.results(found, tree.scope(line))
    if not results or any(not isinstance(one, ast.Call) or last_name(one.func) not in names for one in results):
        return []
    return [
        (one, tree.lines(one.args, tree.scope(one.lineno))) for one in results if isinstance(one, ast.Call) and one.args
    ]


def lines_behind(text: str, line: int, source: str) -> frozenset[int]:
    """The lines that an expression at a line may come from, its own included; none where it is not found there.

    Without lines that compare: what a condition decides is not computed of what it looks at.
    """
    tree = _tree(text)
    found = None if tree is None else tree.expression(line, source)
    if tree is None or found is None:
        return frozenset()
    return tree.lines([found], tree.scope(line), with_conditions=False)


def operands(source: str) -> list[str]:
    """The two sides of an operator, as source; none of anything else."""
    try:
        whole = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError):
        return []
    return [ast.unparse(whole.left), ast.unparse(whole.right)] if isinstance(whole, ast.BinOp) else []


@lru_cache(maxsize=4)
def _tree(text: str) -> _Tree | None:
    tree = parsed(text)
    return None if tree is None else _Tree(tree)


class _Tree:
    """Follows values backwards through one file."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._class_of: dict[int, ast.ClassDef] = {}
        self._functions: dict[str, list[Function]] = {}
        self._calls: list[ast.Call] = []
        self._instances: dict[str, ast.ClassDef] = {}
        classes = {one.name: one for one in ast.walk(tree) if isinstance(one, ast.ClassDef)}
        for node in ast.walk(tree):
            if isinstance(node, _FUNCTIONS):
                self._functions.setdefault(node.name, []).append(node)
            elif isinstance(node, ast.ClassDef):
                self._class_of.update((id(one), node) for one in node.body if isinstance(one, _FUNCTIONS))
            elif isinstance(node, ast.Call):
                self._calls.append(node)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                made = classes.get(last_name(node.value.func))
                for target in node.targets if made is not None else ():
                    if made is not None and last_name(target):
                        self._instances[last_name(target)] = made

    def scope(self, line: int) -> ast.AST:
        return innermost(self._tree, line, *_FUNCTIONS) or self._tree

    def expression(self, line: int, source: str) -> ast.expr | None:
        """The expression that stands at a line, as its source has it."""
        try:
            wanted = ast.unparse(ast.parse(source.strip(), mode="eval"))
        except (SyntaxError, ValueError):
            return None
        for node in ast.walk(self._tree):
            is_there = isinstance(node, ast.expr) and node.lineno <= line <= (node.end_lineno or 0)
            if isinstance(node, ast.expr) and is_there and ast.unparse(node) == wanted:
                return node
        return None

    def results(self, value: ast.expr, scope: ast.AST, depth: int = 6) -> list[ast.expr]:
        """What a value is in the end: what a name was given, what a function returned."""
        if not depth:
            return []
        given: Iterable[tuple[ast.expr, ast.AST]] = ()
        if isinstance(value, ast.Name):
            given = ((one.value, scope) for one in self._last_given(value, scope))
        elif isinstance(value, ast.Call) and (called := self._called(value, scope)) is not None:
            given = ((one, called) for one in _returned(called))
        else:
            return [value]
        found: list[ast.expr] = []
        for one, where in given:
            inner = self.results(one, where, depth - 1)
            if not inner:
                return []
            found += inner
        return found

    def lines(self, values: Iterable[ast.expr], scope: ast.AST, with_conditions: bool = True) -> frozenset[int]:
        """The lines of all that some values come from."""
        stack = [(one, scope) for one in values]
        seen, found, comparing = set[int](), set[int](), set[int]()
        while stack and len(seen) < _LIMIT:
            value, where = stack.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            found.update(range(value.lineno, (value.end_lineno or value.lineno) + 1))
            conditions = [] if with_conditions else _conditions(value)
            for one in conditions:
                comparing.update(range(one.lineno, (one.end_lineno or one.lineno) + 1))
            stack += self._behind(value, where, conditions, with_conditions)
        return frozenset(found - comparing)

    def _behind(
        self, value: ast.expr, scope: ast.AST, conditions: list[ast.expr], with_conditions: bool
    ) -> Iterator[tuple[ast.expr, ast.AST]]:
        left_out = {id(part) for one in conditions for part in ast.walk(one)}
        parts = [one for one in ast.walk(value) if id(one) not in left_out]
        inner = {
            one.id
            for part in parts
            if isinstance(part, _COMPREHENSIONS)
            for generator in part.generators
            for one in ast.walk(generator.target)
            if isinstance(one, ast.Name)
        }
        inner |= {one.arg for part in parts if isinstance(part, ast.Lambda) for one in part.args.args}
        for part in parts:
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load) and part.id not in inner:
                yield from self._of_name(part, scope, with_conditions)
            elif isinstance(part, ast.Attribute) and getattr(part.value, "id", "") == "self":
                yield from self._of_attribute(part.attr, scope)
            elif isinstance(part, ast.Call) and (called := self._called(part, scope)) is not None:
                yield from ((one, called) for one in _returned(called))

    def _of_name(self, name: ast.Name, scope: ast.AST, with_conditions: bool) -> Iterator[tuple[ast.expr, ast.AST]]:
        given = self._last_given(name, scope)
        for one in given:
            yield one.value, scope
            if with_conditions and isinstance(
                one.value, ast.Constant
            ):  # (what is counted or set so comes from what decides about it)
                yield from ((test, scope) for test in _tests_around(scope, one.statement))
        if isinstance(scope, _FUNCTIONS) and name.id in _arguments(scope):
            yield from self._given_by_callers(scope, name.id)
        elif not given and scope is not self._tree:
            yield from ((one.value, self._tree) for one in _given(self._tree, name.id))

    def _of_attribute(self, attr: str, scope: ast.AST) -> Iterator[tuple[ast.expr, ast.AST]]:
        """What the class of a method gives an attribute of ``self``."""
        owner = self._class_of.get(id(scope))
        for method in owner.body if owner is not None else ():
            for node in _own(method) if isinstance(method, _FUNCTIONS) else ():
                if isinstance(node, (ast.Assign, ast.AugAssign)):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    if any(last_name(one) == attr and isinstance(one, ast.Attribute) for one in targets):
                        yield node.value, method

    def _given_by_callers(self, function: Function, argument: str) -> Iterator[tuple[ast.expr, ast.AST]]:
        names = _arguments(function)
        position = names.index(argument) - (id(function) in self._class_of)
        for call in self._calls:
            if last_name(call.func) != function.name and function.name not in _CALLED:
                continue
            scope = self.scope(call.lineno)
            if self._called(call, scope) is not function:
                continue
            given = [one.value for one in call.keywords if one.arg == argument]
            given += call.args[position : position + 1] if position >= 0 else []
            yield from ((one, scope) for one in given if not isinstance(one, ast.Starred))

    def _called(self, call: ast.Call, scope: ast.AST) -> Function | None:
        """The function of the file that a call calls, where its name leaves no choice."""
        name = last_name(call.func)
        owner = self._class_of.get(id(scope))
        if isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "self" and owner is not None:
            own = [one for one in owner.body if isinstance(one, _FUNCTIONS) and one.name == name]
            if own:
                return own[0]
        known = self._functions.get(name, ())
        if len(known) == 1:
            return known[0]
        made = self._instances.get(name) if not known else None
        methods = [one for one in (made.body if made is not None else ()) if isinstance(one, _FUNCTIONS)]
        return next((one for one in methods if one.name in _CALLED), None)

    def _last_given(self, name: ast.Name, scope: ast.AST) -> list[_Given]:
        """What a name may stand for at its place: not what another assignment replaced before."""
        given = list(_given(scope, name.id))
        before = [one for one in given if one.statement.lineno < name.lineno]
        around = _blocks_around(scope, name.lineno)
        whole = [at for at, one in enumerate(before) if one.is_whole and id(one.statement) in around]
        return before[whole[-1] :] if whole else (before or given)


def _given(scope: ast.AST, name: str) -> list[_Given]:
    """All that a name is given in a scope, in the order of the lines."""
    found: list[_Given] = []
    for node in _own(scope):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                found += _given_by_target(target, node.value, node, name)
        elif isinstance(node, ast.AugAssign) and _base(node.target) == name:
            found.append(_Given(node.value, node, is_whole=False))
        elif isinstance(node, (ast.For, ast.AsyncFor)) and any(
            getattr(one, "id", "") == name for one in ast.walk(node.target)
        ):
            found.append(_Given(node.iter, node, is_whole=False))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            if isinstance(called, ast.Attribute) and called.attr in _PUTS and _base(called.value) == name:
                found += [_Given(one, node, is_whole=False) for one in node.value.args]
    return sorted(found, key=lambda one: one.statement.lineno)


def _given_by_target(target: ast.expr, value: ast.expr, statement: ast.stmt, name: str) -> Iterator[_Given]:
    if isinstance(target, (ast.Tuple, ast.List)):
        values = value.elts if isinstance(value, (ast.Tuple, ast.List)) else []
        is_matched = len(values) == len(target.elts) and not any(isinstance(one, ast.Starred) for one in target.elts)
        for position, one in enumerate(target.elts):
            yield from _given_by_target(one, values[position] if is_matched else value, statement, name)
    elif isinstance(target, ast.Name) and target.id == name:
        yield _Given(value, statement, is_whole=True)
    elif not isinstance(target, ast.Name) and _base(target) == name:
        yield _Given(value, statement, is_whole=False)


def _base(node: ast.expr) -> str:
    """The name that something is put into: ``found`` of ``found[key]``."""
    while isinstance(node, (ast.Subscript, ast.Starred)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _blocks_around(scope: ast.AST, line: int) -> set[int]:
    """The statements of all blocks that a line is in: they ran before it, where they stand before it."""
    found = set[int]()
    stack = [scope]
    while stack:
        node = stack.pop()
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list) and body and body[0].lineno <= line <= (body[-1].end_lineno or 0):
                found.update(map(id, body))
                stack += [one for one in body if one.lineno <= line <= (one.end_lineno or 0)]
    return found


def _tests_around(scope: ast.AST, statement: ast.stmt) -> list[ast.expr]:
    """The conditions of the ``if`` statements around one."""
    return [
        node.test
        for node in _own(scope)
        if isinstance(node, ast.If) and any(inner is statement for inner in ast.walk(node))
    ]


def _conditions(value: ast.expr) -> list[ast.expr]:
    """What an expression compares and what it chooses by."""
    found: list[ast.expr] = []
    for node in ast.walk(value):
        if isinstance(node, ast.IfExp):
            found.append(node.test)
        elif isinstance(node, ast.Compare):
            found.append(node)
        elif isinstance(node, ast.comprehension):
            found += node.ifs
    return found


def _returned(function: Function) -> list[ast.expr]:
    return [one.value for one in _own(function) if isinstance(one, (ast.Return, ast.Yield)) and one.value is not None]


def _arguments(function: Function) -> list[str]:
    return [one.arg for one in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """The parts of a function or a module without those of functions and classes within it."""
    stack = list(getattr(scope, "body", ()))
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, _SCOPES):
            stack.extend(ast.iter_child_nodes(node))

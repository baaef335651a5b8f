"""What becomes of a gradient that a statement reads: whether the program asks of it, there or later, if it is None."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

Comprehension = ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp
_COMPREHENSIONS = (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_PUTS = ("append", "add", "extend", "appendleft")
_COLLECTING = ("list", "tuple", "set", "dict", "zip", "enumerate", "sorted", "reversed", "chain", "iter")


class _GradientHolder(NamedTuple):
    """What a gradient is reached by afterwards: a name or the last one of a dotted one, a function's for its results.

    ``is_one``: it is the gradient, not what holds it among others.
    """

    name: str
    is_one: bool


def is_gradient(node: ast.AST) -> bool:
    """``x.grad``, also by ``getattr``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
        return any(isinstance(one, ast.Constant) and one.value == "grad" for one in node.args[1:2])
    return isinstance(node, ast.Attribute) and node.attr == "grad"


def tests_for_none(root: ast.AST, *operators: type[ast.cmpop]) -> Iterator[ast.expr]:
    """What is compared with None in a part of a program, and with nothing else; ``isinstance`` asks the same."""
    kinds = operators or (ast.Is, ast.IsNot, ast.Eq, ast.NotEq)
    for node in ast.walk(root):
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], kinds):
            other = node.comparators[0]
            if isinstance(other, ast.Constant) and other.value is None:
                yield node.left
        elif isinstance(node, ast.Call) and not operators and _last_name(node.func) == "isinstance" and node.args:
            yield node.args[0]


class Provisions:
    """Where a program asks whether something is None."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._parents = {inner: node for node in ast.walk(tree) for inner in ast.iter_child_nodes(node)}
        self._functions = {node.name: node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)}

    def has(self, gradient: ast.expr) -> bool:
        """Whether it is asked of a gradient where it is read, or of the name, the list, the parameter it is given."""
        node: ast.AST = gradient
        source, is_one = ast.unparse(gradient), True
        while (parent := self._parents.get(node)) is not None:
            if any(one is node for one in tests_for_none(parent)) or self._is_asked_in(parent, node, source):
                return True
            if isinstance(parent, ast.NamedExpr) and node is parent.value:
                source = ast.unparse(parent.target)
            elif isinstance(parent, (ast.comprehension, ast.For)):
                return node is parent.iter and not is_one and self._is_asked_of_items(parent)
            elif isinstance(parent, ast.Call) and not self._collects(parent):
                return self._is_asked_by(parent, node, is_one) or self._is_chosen_around(parent, source)
            elif held := self._holder(parent, node, is_one):
                return self._is_asked_of(held, parent)
            elif isinstance(parent, ast.stmt):
                return False
            elif isinstance(parent, (*_COMPREHENSIONS, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Call)):
                is_one = False
            elif not isinstance(parent, (ast.NamedExpr, ast.Starred, ast.keyword)):
                return self._is_chosen_around(parent, source)
            node = parent
        return False

    def _is_chosen_around(self, node: ast.AST, source: str) -> bool:
        """Whether a choice further out asks it."""
        while not isinstance(parent := self._parents[node], ast.stmt):
            if self._is_asked_in(parent, node, source):
                return True
            node = parent
        return False

    def _is_asked_in(self, parent: ast.AST, node: ast.AST, source: str) -> bool:
        """Whether an expression computes something else where what stands in it is None."""
        asking: list[ast.AST] = []
        if isinstance(parent, ast.IfExp) and node is not parent.test:
            asking = [parent.test]
        elif isinstance(parent, ast.BoolOp):
            asking = [one for one in parent.values if one is not node]
        elif isinstance(parent, _COMPREHENSIONS):
            asking = [test for one in parent.generators for test in one.ifs]
        elif isinstance(parent, ast.comprehension):
            asking = [one for one in parent.ifs if one is not node]
        return any(ast.unparse(tested) == source for test in asking for tested in tests_for_none(test))

    def _is_asked_of_items(self, loop: ast.comprehension | ast.For) -> bool:
        """Whether a loop asks it of what it goes over."""
        names = {one.id for one in ast.walk(loop.target) if isinstance(one, ast.Name)}
        around = loop if isinstance(loop, ast.For) else self._parents[loop]
        return any(isinstance(one, ast.Name) and one.id in names for one in tests_for_none(around))

    def _collects(self, call: ast.Call) -> bool:
        """Whether a call gives what it takes one after the other, as it is: ``zip(params, grads)``."""
        name = _last_name(call.func)
        return name in _COLLECTING or (name in ("items", "values") and not call.args)

    def _is_asked_by(self, call: ast.Call, argument: ast.AST, is_one: bool) -> bool:
        """Whether what takes it asks: a function of the file, a lambda beside it, the reader of a list it is put in."""
        name = _last_name(call.func)
        if isinstance(call.func, ast.Attribute) and name in _PUTS and argument in call.args:
            return self._is_asked_of(_GradientHolder(_last_name(call.func.value), is_one=False), call)
        if argument is call.func:
            return False
        for beside in call.args:
            if isinstance(beside, ast.Lambda) and self._is_asked_of_parameters(beside, beside.args.args):
                return True
        function = self._functions.get(name)
        if function is None:
            return False
        arguments = function.args.args[_is_method(function, call) :]
        if isinstance(argument, ast.keyword):
            taking = [one for one in arguments if one.arg == argument.arg]
        else:
            taking = arguments[call.args.index(argument) :][:1] if argument in call.args else []
        if is_one:
            return self._is_asked_of_parameters(function, taking)
        return any(self._is_asked_of(_GradientHolder(one.arg, is_one=False), function) for one in taking)

    def _is_asked_of_parameters(self, function: ast.AST, parameters: list[ast.arg]) -> bool:
        names = {one.arg for one in parameters}
        return any(isinstance(one, ast.Name) and one.id in names for one in tests_for_none(function))

    def _holder(self, statement: ast.AST, value: ast.AST, is_one: bool) -> _GradientHolder | None:
        """What a statement, or a part of one, puts the value under."""
        if isinstance(statement, ast.Tuple) and isinstance(outer := self._parents[statement], ast.Assign):
            names = outer.targets[0]  # ``g, m = p.grad, …``
            if isinstance(names, ast.Tuple) and len(names.elts) == len(statement.elts):
                return _GradientHolder(_last_name(names.elts[[*map(id, statement.elts)].index(id(value))]), is_one)
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
            if isinstance(target, ast.Subscript):
                return _GradientHolder(_last_name(target.value), is_one=False)
            return _GradientHolder(_last_name(target), is_one)
        function = self._around(statement)
        if function is not None and isinstance(statement, (ast.Return, ast.Yield, ast.YieldFrom)):
            return _GradientHolder(function.name, is_one and isinstance(statement, ast.Return))
        return None

    def _is_asked_of(self, held: _GradientHolder, at: ast.AST) -> bool:
        """Whether it is asked of a name or of what it holds, by the function that an expression is in or elsewhere."""
        if not held.name:
            return False
        is_function = held.name in self._functions
        function = at if isinstance(at, _FUNCTIONS) else self._around(at)
        around: ast.AST = self._tree if is_function or function is None else function
        if held.is_one:
            return any(_named(one) == held.name for one in tests_for_none(around))
        for node in ast.walk(around):
            if isinstance(node, (ast.For, ast.comprehension)) and _mentions(node.iter, held.name):
                if self._is_asked_of_items(node):
                    return True
            elif isinstance(node, ast.Call) and any(_mentions(one, held.name) for one in node.args):
                lambdas = [one for one in node.args if isinstance(one, ast.Lambda)]
                if any(self._is_asked_of_parameters(one, one.args.args) for one in lambdas):
                    return True
        tested = (one.value for one in tests_for_none(around) if isinstance(one, ast.Subscript))
        return any(_last_name(one) == held.name for one in tested)

    def _around(self, node: ast.AST) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        """The innermost function around a node."""
        while (parent := self._parents.get(node)) is not None:
            if isinstance(parent, _FUNCTIONS):
                return parent
            node = parent
        return None


def _is_method(function: ast.FunctionDef | ast.AsyncFunctionDef, call: ast.Call) -> int:
    """Whether the first parameter is the object that the call is a method of."""
    first = [one.arg for one in function.args.args[:1]]
    return int(isinstance(call.func, ast.Attribute) and first == ["self"])


def _last_name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _named(node: ast.expr) -> str:
    """The last name of what an expression is, or calls."""
    return _last_name(node.func if isinstance(node, ast.Call) else node)


def _mentions(node: ast.expr, name: str) -> bool:
    return any(_last_name(one) == name for one in ast.walk(node))

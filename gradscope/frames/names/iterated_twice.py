"""Iterators that one block of a file goes through twice: the second time nothing is left in them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from gradscope.frames.names.used_up_iterators import goes_through, is_iterator_in, iterators_of, names_bound
from gradscope.frames.syntax_trees import last_name, parsed

Region = tuple[int, int, int, int]
"""First line and column, last line and column (as in spans: 0-based, the last one behind it)."""

_FIRST_ONLY = frozenset(("next", "any", "all"))
"""Functions that may leave something in an iterator."""
_TAKE_ALL = frozenset(("list", "tuple", "set", "sorted", "sum", "max", "min", "parameters_to_vector"))
_KNOWN_DECORATORS = frozenset(("no_grad", "enable_grad", "inference_mode", "staticmethod", "set_grad_enabled"))


class IteratedTwice(NamedTuple):
    """One name, and the two places that go through what it stands for."""

    name: str
    function: str
    """The function whose argument it is; empty where it is a variable."""
    made: tuple[int, int]
    """First and last line of the statement that makes the iterator: an assignment, or the one call of the function."""
    source: str
    """What makes it."""
    first: tuple[int, int]
    """First and last line of what goes through it first, without the body of a loop."""
    done: Region
    """What is done with each item there."""
    again: tuple[int, int]
    undone: Region


class _Taken(NamedTuple):
    """One place that goes through something."""

    node: ast.AST
    region: Region
    lines: tuple[int, int]
    is_all: bool


@lru_cache(maxsize=16)
def iterated_twice(text: str) -> tuple[IteratedTwice, ...]:
    """All places of a file; of each name and block the first two.

    The name is a variable, bound once in the file to what is an iterator by its making, or an argument of a function,
    which each call in the file gives such an iterator.
    """
    tree = parsed(text)
    if tree is None:
        return ()
    found = list[IteratedTwice]()
    bound = names_bound(tree)
    for name, made in iterators_of(tree).items():
        if bound[name] == 1 and isinstance(made, ast.Assign):
            source = ast.unparse(made.value)
            lines = made.lineno, made.end_lineno or made.lineno
            found += [_twice(name, "", lines, source, *pair) for pair in _pairs(tree, name)]
    for function, is_method in _functions(tree):
        if bound[function.name] != 1:
            continue
        given = [_argument_lists(call, function, is_method) for call in _calls(tree, function.name)]
        for name in [one.arg for one in function.args.args] if given else ():
            values = [arguments.get(name) for arguments, _ in given]
            if _is_bound_again(function, name) or not all(
                value is not None and is_iterator_in(tree, value) for value in values
            ):
                continue
            call, value = given[0][1], values[0]
            lines = call.lineno, call.end_lineno or call.lineno
            source = ast.unparse(value) if value is not None else ""
            found += [_twice(name, function.name, lines, source, *pair) for pair in _pairs(function, name)]
    return tuple(found)


def _twice(name: str, function: str, made: tuple[int, int], source: str, first: _Taken, again: _Taken) -> IteratedTwice:
    return IteratedTwice(name, function, made, source, first.lines, first.region, again.lines, again.region)


def _functions(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef, bool]]:
    """The functions of a file whose arguments nothing changes before their body, and whether each is a method."""
    for owner in ast.walk(tree):
        for node in getattr(owner, "body", None) or () if not isinstance(owner, ast.Lambda | ast.IfExp) else ():
            if not isinstance(node, ast.FunctionDef) or node.args.vararg or node.args.kwarg or node.args.posonlyargs:
                continue
            names = {last_name(one.func if isinstance(one, ast.Call) else one) for one in node.decorator_list}
            if names <= _KNOWN_DECORATORS:
                yield node, isinstance(owner, ast.ClassDef) and "staticmethod" not in names


def _calls(tree: ast.Module, name: str) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and last_name(node.func) == name]


def _argument_lists(call: ast.Call, function: ast.FunctionDef, is_method: bool) -> tuple[dict[str, ast.expr], ast.Call]:
    """What a call gives each argument; nothing where it gives several at once."""
    names = [one.arg for one in function.args.args][is_method:]
    if any(isinstance(one, ast.Starred) for one in call.args) or any(one.arg is None for one in call.keywords):
        return {}, call
    given = dict(zip(names, call.args, strict=False))
    return given | {str(one.arg): one.value for one in call.keywords}, call


def _is_bound_again(function: ast.FunctionDef, name: str) -> bool:
    """Whether a function gives its argument's name another value, or asks what it was given."""
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load):
            return True
        is_asking = isinstance(node, ast.Call) and last_name(node.func) in ("isinstance", "tee") and node.args
        if isinstance(node, ast.Call) and is_asking and ast.unparse(node.args[0]) == name:
            return True
        is_inner = isinstance(node, ast.FunctionDef | ast.Lambda) and node is not function
        if isinstance(node, ast.FunctionDef | ast.Lambda) and is_inner and name in [one.arg for one in node.args.args]:
            return True
    return False


def _pairs(scope: ast.AST, name: str) -> Iterator[tuple[_Taken, _Taken]]:
    """In each block the first place that surely goes through all of an iterator, and the next one after it."""
    for block in _blocks(scope):
        places = [place for statement in block for place in _places(statement, name)]
        for first, again in pairwise(sorted(places, key=lambda one: one.region)):
            if first.is_all and not _is_behind_a_switch(block, again.node):
                yield first, again
                break


def _blocks(scope: ast.AST) -> Iterator[list[ast.stmt]]:
    """The blocks of statements below a node; those of ``with`` stand in the block around."""
    for node in ast.walk(scope):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list) and not isinstance(node, ast.With | ast.ClassDef):
                yield list(_flat(block))


def _flat(block: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in block:
        if isinstance(statement, ast.With):
            yield from _flat(statement.body)
        else:
            yield statement


def _places(statement: ast.stmt, name: str) -> Iterator[_Taken]:
    """Where a statement of a block goes through an iterator; what it does so on a condition takes not all."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return
    is_simple = not hasattr(statement, "body")
    for node in ast.walk(statement):
        if isinstance(node, ast.For) and goes_through(node.iter, name):
            region = _region(node.body[0], node.body[-1])
            is_all = node is statement and not any(isinstance(one, ast.Break | ast.Return) for one in ast.walk(node))
            yield _Taken(node, region, (node.lineno, node.iter.end_lineno or node.lineno), is_all)
        elif isinstance(node, ast.GeneratorExp | ast.ListComp | ast.SetComp) and goes_through(
            node.generators[0].iter, name
        ):
            is_all = is_simple and _takes_all(statement, node)
            yield _Taken(node, _region(node.elt, node.elt), _lines(node), is_all)
        elif isinstance(node, ast.Call) and _is_given(node, name):
            is_all = is_simple and not any(isinstance(one, ast.Lambda | ast.IfExp) for one in ast.walk(statement))
            yield _Taken(node, _region(node, node), _lines(node), is_all)


def _takes_all(statement: ast.stmt, comprehension: ast.expr) -> bool:
    """Whether a comprehension in a simple statement runs to its end, whenever the statement runs."""
    if any(isinstance(one, ast.Lambda | ast.IfExp | ast.BoolOp) for one in ast.walk(statement)):
        return False
    if not isinstance(comprehension, ast.GeneratorExp):
        return True
    taker = next((one for one in ast.walk(statement) if isinstance(one, ast.Call) and comprehension in one.args), None)
    return taker is not None and last_name(taker.func) not in _FIRST_ONLY


def _is_given(call: ast.Call, name: str) -> bool:
    """Whether a call takes all of an iterator, or clips what is in it."""
    called = last_name(call.func)
    if called in _TAKE_ALL or called.startswith("clip_grad_"):
        return bool(call.args) and ast.unparse(call.args[0]) == name
    is_derivative = isinstance(call.func, ast.Attribute) and called == "grad" and "autograd" in ast.unparse(call.func)
    return is_derivative and len(call.args) > 1 and ast.unparse(call.args[1]) == name


def _is_behind_a_switch(block: list[ast.stmt], node: ast.AST) -> bool:
    """Whether a place runs only where a condition holds that compares nothing: a flag, which may be off."""
    for statement in block:
        around = [one for one in ast.walk(statement) if isinstance(one, ast.If | ast.IfExp)]
        for condition in around:
            if node in ast.walk(condition) and not any(
                isinstance(one, ast.Compare) for one in ast.walk(condition.test)
            ):
                return True
    return False


def _lines(node: ast.expr | ast.stmt) -> tuple[int, int]:
    return node.lineno, node.end_lineno or node.lineno


def _region(first: ast.expr | ast.stmt, last: ast.expr | ast.stmt) -> Region:
    return first.lineno, first.col_offset, last.end_lineno or last.lineno, last.end_col_offset or 0

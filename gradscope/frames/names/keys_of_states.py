"""Look-ups of an optimizer's state under what is no parameter of it: ``optimizer.state.pop(index, {})``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_READS = ("pop", "get")


class WrongKey(NamedTuple):
    """One look-up, whose result the same function puts into the state of a parameter."""

    line: int
    end_line: int
    function: str
    called: str
    """``self.optimizer.state.pop``"""
    key: str
    what: str
    """What the key is, and no parameter that the optimizer has had: ``a number``."""


def wrong_keys(text: str) -> Iterator[WrongKey]:
    """All of a file."""
    tree = parsed(text) if ".state" in text and "param_groups" in text else None
    for function in (node for node in (ast.walk(tree) if tree is not None else ()) if isinstance(node, _FUNCTIONS)):
        for statement in ast.walk(function):
            if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
                continue
            name, look_up = statement.targets[0].id, _look_up(statement.value)
            if look_up is None or tree is None or not _is_carried(function, name, look_up[0], statement.lineno):
                continue
            if f"{ast.unparse(look_up[0]).rsplit('.', 2)[0]}.param_groups" not in text:
                continue  # (what has no groups is no optimizer: a dict of the program's own)
            if what := _what(tree, function, look_up[1], statement.lineno):
                called, key = (ast.unparse(one) for one in look_up)
                end = statement.end_lineno or statement.lineno
                yield WrongKey(statement.lineno, end, function.name, called, key, what)


def _look_up(value: ast.expr) -> tuple[ast.expr, ast.expr] | None:
    """What is called to look a state up, and the key."""
    if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Attribute) or not value.args:
        return None
    is_state = value.func.attr in _READS and last_name(value.func.value) == "state"
    return (value.func, value.args[0]) if is_state and isinstance(value.func.value, ast.Attribute) else None


def _is_carried(function: _Function, name: str, called: ast.expr, line: int) -> bool:
    """Whether a function puts what it looked up into the same state, under another key."""
    state = ast.unparse(called).rpartition(".")[0]
    return any(
        isinstance(node, ast.Assign)
        and node.lineno > line
        and isinstance(node.value, ast.Name)
        and node.value.id == name
        and isinstance(node.targets[0], ast.Subscript)
        and ast.unparse(node.targets[0].value) == state
        for node in ast.walk(function)
    )


def _what(tree: ast.Module, function: _Function, key: ast.expr, line: int) -> str:
    """What a key is that is no parameter of the optimizer's; empty where it may be one."""
    if _is_plain(function, key):
        return "a number or a name"
    if isinstance(key, ast.Attribute) and key.attr == "data":
        return "another tensor on the parameter's memory"
    if isinstance(key, ast.Call) and isinstance(key.func, ast.Attribute) and key.func.attr == "detach":
        return "another tensor on the parameter's memory"
    if _is_new(function, key, line):
        return "the new parameter, which has none yet"
    return "a number or a name" if isinstance(key, ast.Name) and _is_given_plain(tree, function, key.id) else ""


def _is_plain(function: _Function, key: ast.expr | None) -> bool:
    """Whether an expression gives a number or a string: a literal, a group's name, what a loop counts or names."""
    if isinstance(key, ast.Constant):
        return type(key.value) in (int, str)
    if isinstance(key, ast.Subscript) and isinstance(key.slice, ast.Constant) and key.slice.value == "name":
        return True
    if not isinstance(key, ast.Name):
        return False
    bound = [node for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    loops = [node for node in ast.walk(function) if isinstance(node, ast.For)]
    return sum(node.id == key.id for node in bound) == 1 and any(_counts(loop, key.id) for loop in loops)


def _counts(loop: ast.For, name: str) -> bool:
    """Whether a loop gives a name the number of its round, or the name of what it walks through."""
    called = last_name(loop.iter.func) if isinstance(loop.iter, ast.Call) else ""
    if called == "range":
        return isinstance(loop.target, ast.Name) and loop.target.id == name
    first = loop.target.elts[0] if isinstance(loop.target, ast.Tuple) and loop.target.elts else None
    return called in ("enumerate", "named_parameters") and isinstance(first, ast.Name) and first.id == name


def _is_new(function: _Function, key: ast.expr, line: int) -> bool:
    """Whether the function gave what a key stands for a new parameter before a line, and looked up nothing before."""
    made, written = set[str](), ast.unparse(key)
    stores = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
    for node in sorted(stores, key=lambda one: one.lineno):
        targets = {ast.unparse(target) for target in node.targets}
        is_new = isinstance(node.value, ast.Call) and last_name(node.value.func) == "Parameter"
        is_new |= isinstance(node.value, ast.Name) and node.value.id in made
        if node.lineno < line and is_new:
            made |= targets
        elif written in targets:
            return False
        if any(target.endswith(f".state[{written}]") for target in targets) and node.lineno < line:
            return False
    return written in made


def _is_given_plain(tree: ast.Module, function: _Function, name: str) -> bool:
    """Whether a key is an argument for which all calls of a function, made in functions, give a number or a string."""
    names = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
    stored = [node for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    if name not in names or any(node.id == name for node in stored):
        return False
    position, calls = names.index(name) - (names[0] == "self"), list[bool]()
    around = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or last_name(call.func) != function.name:
            continue
        inside = [one for one in around if one.lineno <= call.lineno <= (one.end_lineno or 0)]
        given = next((one.value for one in call.keywords if one.arg == name), None)
        given = given or (call.args[position] if position < len(call.args) else None)
        calls.append(bool(inside) and _is_plain(max(inside, key=lambda one: one.lineno), given))
    return bool(calls) and all(calls)

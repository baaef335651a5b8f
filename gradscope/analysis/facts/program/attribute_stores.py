"""Where a text puts a value on an object, into a list or into a dict: ``self.kept = y``."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from typing import NamedTuple

from gradscope.frames.names.put_statements import parts_with_graphs
from gradscope.frames.syntax_trees import dotted_name, last_name, parsed

_PUTS = ("append", "appendleft", "add", "insert", "extend", "update", "setdefault", "put", "register_buffer")
_OF_HOOK = 3
"""Parameters of a forward hook: module, inputs, output."""


class StoredOn(NamedTuple):
    """A statement that puts something on an object, into a list or into a dict."""

    line: int
    end_line: int
    function: str
    """The function around it; ``<module>`` for none."""


def stores_on_objects(
    text: str, lines: Collection[int], functions: Collection[str], containers: Collection[str]
) -> list[StoredOn]:
    """The statements that put a value where a copy of the object finds it.

    ``self.kept = y``, ``self.rows.append((n, y))``, ``self.state.update(score=y)``, ``setattr(self, name, y)``,
    ``SGD(weights, lr=y)``, and ``rows.append(y)`` where nothing puts it on an attribute.

    Args:
        text: Source of the file.
        lines: Lines that make the value, or give it a name in the function that they are in.
        functions: Functions that give it, by the last part of their names.
        containers: What it was seen in, by the last part of its name; where some statement puts it there, no other one
            does.
    """
    tree = parsed(text)
    places = [] if tree is None else [*_places(tree)]
    given = {
        (place.scope, name)
        for place in places
        if any(place.line <= line <= place.end_line for line in lines)
        for name in _assigned_names(place.statement)
    }
    found: list[tuple[str, StoredOn]] = []
    for place in places:
        is_made_here = any(place.line <= line <= place.end_line for line in lines)
        for holder, part in _stored(place.statement):
            is_it = (
                (isinstance(part, ast.Name) and (place.scope, part.id) in given)
                or (isinstance(part, ast.Call) and (is_made_here or last_name(part.func) in functions))
                or (isinstance(part, ast.Attribute) and part.attr in functions)  # (of a property)
            )
            if is_it:
                found.append((holder, StoredOn(place.line, place.end_line, place.function)))
    inside = [pair for pair in found if pair[0].rpartition(".")[2] in containers]
    on_attributes = [pair for pair in found if "." in pair[0]]
    return [*dict.fromkeys(one for _, one in inside or on_attributes or found)]


def stores_of_hooks(text: str) -> list[StoredOn]:
    """The statements by which functions with the three parameters of a forward hook keep the output: the third one."""
    tree = parsed(text)
    functions = _hooks(tree) if tree is not None else []
    taken = {node.lineno: [one.arg for one in node.args.args if one.arg not in ("self", "cls")] for node in functions}
    outputs = {line: names[-1] for line, names in taken.items() if len(names) == _OF_HOOK}
    return [
        StoredOn(place.line, place.end_line, place.function)
        for place in (_places(tree) if tree is not None and "register_forward_hook" in text else ())
        if any(
            isinstance(part, ast.Name) and part.id == outputs.get(place.scope) for _, part in _stored(place.statement)
        )
    ]


def _hooks(tree: ast.Module) -> list[ast.FunctionDef]:
    """The functions that are registered as forward hooks by their names, or that one which is called for it defines."""
    given = [
        one.func if isinstance(one, ast.Call) else one
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and last_name(node.func) == "register_forward_hook"
        for one in node.args[:1]
    ]
    names = {last_name(one) for one in given}
    named = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in names]
    return [inner for node in named for inner in ast.walk(node) if isinstance(inner, ast.FunctionDef)]


class _PlaceInText(NamedTuple):
    statement: ast.stmt
    line: int
    end_line: int
    scope: int
    function: str


def _places(tree: ast.Module) -> Iterator[_PlaceInText]:
    """Every simple statement with the function that it is in."""
    todo: list[tuple[ast.AST, int, str]] = [(tree, 0, "<module>")]
    while todo:
        node, scope, function = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            scope, function = node.lineno, node.name
        if isinstance(node, (ast.Assign, ast.Expr)):
            yield _PlaceInText(node, node.lineno, node.end_lineno or node.lineno, scope, function)
        todo += [(child, scope, function) for child in ast.iter_child_nodes(node)]


def _targets(statement: ast.stmt) -> list[ast.expr]:
    targets = statement.targets if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
    several = targets if isinstance(targets, list) else [targets] if targets is not None else []
    return [one for each in several for one in (each.elts if isinstance(each, (ast.Tuple, ast.List)) else [each])]


def _assigned_names(statement: ast.stmt) -> list[str]:
    return [target.id for target in _targets(statement) if isinstance(target, ast.Name)]


def _stored(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """What a statement puts on objects and into containers as it is, each with the name of where."""
    value = getattr(statement, "value", None)
    for target in _targets(statement):
        holder = dotted_name(_whole(target))
        if holder and value is not None and not isinstance(target, ast.Name):
            yield from ((holder, part) for part in _kept_of(value))
    yield from (("param_groups.", part) for part in _learning_rates(value))
    if not isinstance(statement, ast.Expr) or not isinstance(value, ast.Call):
        return
    given = [*value.args, *(keyword.value for keyword in value.keywords)]
    if isinstance(value.func, ast.Attribute) and value.func.attr in _PUTS:
        holder = dotted_name(_whole(value.func.value))
        of_object = f"{holder}." if value.func.attr == "register_buffer" else holder
        yield from ((of_object, part) for one in given for part in _kept_of(one))
    elif dotted_name(value.func) in ("setattr", "object.__setattr__"):
        yield from ((f"{dotted_name(given[0])}.", part) for one in given[2:] for part in _kept_of(one))


def _learning_rates(value: ast.expr | None) -> list[ast.expr]:
    """What a call is given as a learning rate, which an optimizer keeps in its groups."""
    return [keyword.value for keyword in value.keywords if keyword.arg == "lr"] if isinstance(value, ast.Call) else []


def _kept_of(value: ast.expr) -> Iterator[ast.expr]:
    """What a value holds as it is; of ``dict(x=y)`` as of ``{"x": y}``."""
    is_dict = isinstance(value, ast.Call) and dotted_name(value.func) in ("dict", "SimpleNamespace")
    for one in (keyword.value for keyword in value.keywords) if is_dict and isinstance(value, ast.Call) else [value]:
        yield from parts_with_graphs(one)


def stores_under(text: str, name: str, values: frozenset[str]) -> list[tuple[int, int, str]]:
    """The statement that puts something on an object under a name, where the source has one that can have been it.

    Args:
        text: Source of the file.
        name: ``self.hidden``, ``net.hidden``, ``kept['x']``: of the first two the attribute counts.
        values: Names that the tensor had: of several statements the one that stores such a name.

    Returns:
        First and last line, and nothing for the function; empty where it is not clear which.
    """
    tree, named = parsed(text), parsed(name)
    statement = named.body[0] if named is not None and named.body else None
    if tree is None or not isinstance(statement, ast.Expr):
        return []
    wanted = statement.value
    found: list[tuple[ast.stmt, ast.expr]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            continue  # ``self.hidden = None`` stores no tensor
        if isinstance(node, ast.Assign) and any(
            _is_like(target, wanted) or _is_display_of(node.value, target, wanted) or _is_among(target, wanted)
            for target in node.targets
        ):
            found.append((node, node.value))
        elif isinstance(node, ast.Expr) and (appended := _appended(node.value, wanted)) is not None:
            found.append((node, appended))
    if len(found) > 1:
        found = [(node, value) for node, value in found if isinstance(value, ast.Name) and value.id in values]
    return [(node.lineno, node.end_lineno or node.lineno, "") for node, _ in found] if len(found) == 1 else []


def stores_of_call(text: str, function: str) -> list[tuple[int, int, str]]:
    """The statements that put what a function gives on an object: ``self.kept = self.build()``.

    Args:
        text: Source of the file.
        function: The last part of its name.

    Returns:
        First and last line, and the last part of the name of the attribute or container.
    """
    tree = parsed(text)
    return [
        (node.lineno, node.end_lineno or node.lineno, last_name(whole))
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and last_name(node.value.func) == function
        for target in node.targets
        for part in (target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target])
        if isinstance(part, (ast.Attribute, ast.Subscript)) and last_name(whole := _whole(part))
    ]


def _whole(part: ast.expr) -> ast.expr:
    """``self.kept`` of ``self.kept['x']``."""
    while isinstance(part, ast.Subscript):
        part = part.value
    return part


def _is_like(target: ast.expr, wanted: ast.expr) -> bool:
    if isinstance(target, ast.Attribute) and isinstance(wanted, ast.Attribute):
        return target.attr == wanted.attr
    if isinstance(target, ast.Subscript) and isinstance(wanted, ast.Subscript):
        return last_name(target.value) == last_name(wanted.value) != ""
    return False


def _is_among(target: ast.expr, wanted: ast.expr) -> bool:
    """Whether several names are stored at once, and under one of them what is wanted, or that of which it is a part."""
    parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else []
    whole = last_name(wanted.value) if isinstance(wanted, ast.Subscript) else ""
    return any(_is_like(part, wanted) or last_name(part) == whole != "" for part in parts)


def _is_display_of(value: ast.expr, target: ast.expr, wanted: ast.expr) -> bool:
    """Whether a list or dict, of which a part is wanted, is written out where it is stored."""
    is_display = isinstance(value, (ast.ListComp, ast.DictComp)) or bool(getattr(value, "elts", None))
    return is_display and isinstance(wanted, ast.Subscript) and last_name(wanted.value) == last_name(target) != ""


def _appended(call: ast.expr, wanted: ast.expr) -> ast.expr | None:
    """What a call appends to the list of which a part is wanted."""
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "append" and call.args:
        is_list = isinstance(wanted, ast.Subscript) and last_name(call.func.value) == last_name(wanted.value) != ""
        return call.args[0] if is_list else None
    return None

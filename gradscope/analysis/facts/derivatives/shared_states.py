"""What a Function's forward keeps for its backward in a place that all calls have in common, by its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.backward_faults import names_made_from
from gradscope.analysis.facts.derivatives.function_sources import Definition, WrittenBackward
from gradscope.frames.syntax_trees import own_parts
from gradscope.recording import NONE


class SharedState(NamedTuple):
    """What a forward keeps for its backward in a place that all calls of the Function have in common."""

    place: str
    """The class's attribute, an item of something global, or a global name; as the source has it."""
    keeping: ast.stmt
    reading: ast.expr
    argument: int = NONE
    """Which argument it is, where it is kept as it was given; NONE for what was computed."""


class _Stored(NamedTuple):
    """One value that a statement puts into a place."""

    place: ast.expr
    value: ast.expr
    statement: ast.stmt


def shared_state(written: WrittenBackward) -> list[SharedState]:
    """What a forward is given or computes from that, stores past ctx, and its backward reads; in order."""
    forward = written.forward
    if forward is None or len(forward.args.args) < 2:
        return []
    context, *arguments = (one.arg for one in forward.args.args)
    parts = list(own_parts(forward))
    outside = {name for part in parts if isinstance(part, ast.Global | ast.Nonlocal) for name in part.names}
    bound_here = [one.id for one in parts if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]
    local = {context, *arguments, *bound_here} - outside
    depends = {name for argument in arguments for name in names_made_from(forward, argument)}
    places = [one for one in own_parts(written.definition) if isinstance(one, _PLACES)]
    read = {ast.unparse(place): one for one in places for place in _places_read(one)}
    bound = {ast.unparse(one) for one in places if not isinstance(getattr(one, "ctx", None), ast.Load | None)}
    computed = _computed(parts, bound_here)
    found = []
    for stored in _stores(written, parts):
        place, base = ast.unparse(stored.place), _owner(stored.place)
        is_outside = base not in local and (not isinstance(stored.place, ast.Name) or place in outside)
        if not base or not is_outside or place not in read or place in bound:
            continue
        if stored.statement in _only_if(parts, base):
            continue
        value = stored.value
        if isinstance(value, ast.Name) and value.id in arguments and value.id not in bound_here:
            found.append(SharedState(place, stored.statement, read[place], arguments.index(value.id)))
            continue
        value = computed.get(value.id, value) if isinstance(value, ast.Name) else value
        if _is_of_values(value) and not depends.isdisjoint(_names(value)):
            found.append(SharedState(place, stored.statement, read[place]))
    return found


def _only_if(parts: list[ast.AST], owner: str) -> set[ast.AST]:
    """What is run or not by what is there already: ``if Table.rows is None: Table.rows = rows_for(x)``."""
    choices = (part for part in parts if isinstance(part, ast.If) and owner in _names(part.test))
    return {one for choice in choices for statement in choice.body for one in ast.walk(statement)}


def _computed(parts: list[ast.AST], bound: list[str]) -> dict[str, ast.expr]:
    """What each name stands for that is bound once, alone."""
    return {
        target.id: part.value
        for part in parts
        if isinstance(part, ast.Assign)
        for target in part.targets
        if isinstance(target, ast.Name) and bound.count(target.id) == 1
    }


def _stores(written: WrittenBackward, parts: list[ast.AST]) -> Iterator[_Stored]:
    """The places that the statements of a forward store into."""
    for part in parts:
        if isinstance(part, ast.Assign):
            for target in part.targets:
                yield from _paired(target, part.value, part)
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            yield from _stored_by(written, part.value, part)


def _paired(target: ast.expr, value: ast.expr, statement: ast.stmt) -> Iterator[_Stored]:
    if not isinstance(target, ast.Tuple):
        yield _Stored(target, value, statement)
    elif isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts):
        for one, given in zip(target.elts, value.elts, strict=True):
            yield _Stored(one, given, statement)


def _stored_by(written: WrittenBackward, call: ast.Call, statement: ast.stmt) -> Iterator[_Stored]:
    """What a call stores: ``setattr``, ``update`` of a dict, or a method of the program's that sets attributes."""
    func = call.func
    if isinstance(func, ast.Name) and func.id == "setattr" and len(call.args) == 3:
        owner, name, value = call.args
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield _Stored(ast.Attribute(owner, name.value, ast.Load()), value, statement)
    if not isinstance(func, ast.Attribute):
        return
    named = [(one.arg, one.value) for one in call.keywords if one.arg is not None]
    if func.attr == "update" and not call.args:
        for key, given in named:
            yield _Stored(ast.Subscript(func.value, ast.Constant(key), ast.Load()), given, statement)
    method = written.methods.get(func.attr) if isinstance(func.value, ast.Name) else None
    if method is None or not isinstance(func.value, ast.Name) or func.value.id != written.name:
        return
    if any(isinstance(one, ast.Call) and ast.unparse(one.func) == "setattr" for one in own_parts(method)):
        for key, given in named:
            yield _Stored(ast.Attribute(func.value, key, ast.Load()), given, statement)
    yield from _set_by(method, call, func.value, statement)


def _set_by(method: Definition, call: ast.Call, owner: ast.Name, statement: ast.stmt) -> Iterator[_Stored]:
    """What a method of the class sets of what it is given: ``cls.mask = mask``."""
    arguments = [one.arg for one in method.args.args]
    is_of_class = any(ast.unparse(one) == "classmethod" for one in method.decorator_list)
    given = dict(zip(arguments[is_of_class:], call.args, strict=False))
    given |= {one.arg: one.value for one in call.keywords if one.arg is not None}
    for part in own_parts(method):
        if not isinstance(part, ast.Assign) or not isinstance(part.value, ast.Name) or part.value.id not in given:
            continue
        for target in part.targets:
            base = target.value if isinstance(target, ast.Attribute) else None
            if isinstance(base, ast.Name) and base.id in {owner.id, *arguments[:is_of_class]}:
                assert isinstance(target, ast.Attribute)
                yield _Stored(ast.Attribute(owner, target.attr, ast.Load()), given[part.value.id], statement)


def _places_read(part: ast.expr) -> list[ast.expr]:
    """The place that an expression reads: itself, or what ``getattr`` or ``get`` is asked for."""
    if not isinstance(part, ast.Call):
        return [part] if isinstance(getattr(part, "ctx", None), ast.Load) else []
    key = part.args[-1] if part.args else None
    if not isinstance(key, ast.Constant):
        return []
    if isinstance(part.func, ast.Name) and part.func.id == "getattr" and len(part.args) == 2:
        return [ast.Attribute(part.args[0], str(key.value), ast.Load())]
    if isinstance(part.func, ast.Attribute) and part.func.attr == "get" and len(part.args) == 1:
        return [ast.Subscript(part.func.value, key, ast.Load())]
    return []


def _owner(place: ast.expr) -> str:
    """The name that attributes and items with constant keys lead to; empty for others."""
    while isinstance(place, ast.Attribute | ast.Subscript):
        if isinstance(place, ast.Subscript) and not isinstance(place.slice, ast.Constant):
            return ""
        place = place.value
    return place.id if isinstance(place, ast.Name) else ""


_PLACES = (ast.Attribute, ast.Subscript, ast.Name, ast.Call)
_ABOUT = frozenset(("shape", "size", "dim", "ndim", "numel", "device", "dtype", "len", "type", "is_cuda"))
"""What is asked of a tensor that is the same in all calls, most likely."""


def _is_of_values(value: ast.expr) -> bool:
    """Whether an expression computes with values: one that only asks for sizes does not."""
    names = {*_names(value), *(one.attr for one in ast.walk(value) if isinstance(one, ast.Attribute))}
    is_computed = any(isinstance(one, ast.Call | ast.Compare | ast.BinOp) for one in ast.walk(value))
    return is_computed and names.isdisjoint(_ABOUT)


def _names(node: ast.AST) -> list[str]:
    return [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]

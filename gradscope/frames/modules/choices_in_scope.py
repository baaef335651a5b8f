"""The choices by names of which alone all that an optimizer was given comes, whatever they go by.

``name.startswith(prefixes)`` with prefixes of a list that is computed: what it chooses cannot be told from the text.
But where an optimizer has not got a parameter, and there is no other way, it is what left it out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.modules.name_filters import ParameterFilter, chosen_by, constants_of, filters_of, puts
from gradscope.frames.syntax_trees import dotted_name, innermost, last_name, own_parts, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_GIVE = ("parameters", "named_parameters", "modules", "named_modules", "children", "named_children", "state_dict")
"""Methods by which parameters of a module are had."""
_TAKE_OUT = ("pop", "popitem", "remove", "clear", "discard", "filter")
_HOLDS = (ast.If, ast.Try, ast.IfExp, ast.Lambda)

Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Module


class ChoiceInScope(NamedTuple):
    """A condition on names by which some are chosen."""

    line: int
    end_line: int
    by: tuple[tuple[str, int, int], ...]
    """Variables that it reads beside the name, each with the first and last line of what gave it its value."""
    is_tracked_only: bool
    """It asks ``requires_grad`` as well."""


def choices_in_scope(text: str, first: int, last: int, name: str) -> list[ChoiceInScope]:
    """The conditions of a file that chose all parameters which a call is given, from one module.

    Args:
        text: Source of the file.
        first: The first line of the call, which makes an optimizer.
        last: Its last line.
        name: Of a parameter that it was not given.

    Returns:
        In the function of the file that the call gets them of, or else in the statements before it. Empty where there
        is another way by which parameters may have come, where they may be those of several modules, where a choice
        goes by something else as well, and where one has the parameter: then something took it out again, as it may
        where something is taken out of lists at all.
    """
    tree = parsed(text)
    if tree is None or "named_parameters" not in text:
        return []
    scope = scope_given(tree, first, last)
    parts = [
        node for node in own_of_scope(scope) if getattr(node, "lineno", 0) <= last or scope.__class__ in _FUNCTIONS
    ]
    inside = {id(node) for node in parts}
    filters = [one for one in filters_of(scope) if id(one.node) in inside]
    given = [node for node in parts if isinstance(node, ast.Call) and last_name(node.func) in _GIVE]
    modules = {dotted_name(node.func.value) for node in given if isinstance(node.func, ast.Attribute)}
    if not filters or len(given) != len(filters) or len(modules) != 1 or "" in modules:
        return []
    own = name.split(".")
    names, constants = [".".join(own[at:]) for at in range(len(own))], constants_of(tree)
    if any((chosen_by(one, end, constants) or (False,))[0] for one in filters for end in names):
        return []
    if _takes_out(parts, filters) or modules.pop().partition(".")[0] in _loop_variables(parts):
        return []
    held = {id(node) for one in parts if isinstance(one, _HOLDS) for node in ast.walk(one) if node is not one}
    found: list[ChoiceInScope] = []
    for one in filters:
        conditions = _conditions(one)
        if id(one.node) in held or not conditions:
            return []
        for test, line, end_line in conditions:
            reads = _reads(test, one)
            if reads is None:
                return []
            found.append(ChoiceInScope(line, end_line, _given(parts, reads[0], line), reads[1]))
    return sorted(found)


def scope_given(tree: ast.Module, first: int, last: int) -> Scope:
    """The function whose result a call is given, itself or by a name; else what is around the call."""
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)}
    around = innermost(tree, first, *_FUNCTIONS)
    scope = around if isinstance(around, _FUNCTIONS) else tree
    parts = list(own_of_scope(scope))
    calls = [one for one in parts if isinstance(one, ast.Call) and first <= one.lineno <= last]
    values = [part for call in calls for part in (*call.args, *(word.value for word in call.keywords))]
    names = {one.id for one in values if isinstance(one, ast.Name)}
    assigned = [
        node.value
        for node in parts
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and dotted_name(node.targets[0]) in names
    ]
    values += assigned if len(assigned) == 1 else []
    called = [last_name(one.func) for one in values if isinstance(one, ast.Call) and last_name(one.func) in functions]
    return functions[called[0]] if len(called) == 1 else scope


def own_of_scope(scope: Scope) -> Iterator[ast.AST]:
    """The parts of a scope without those of functions and classes in it."""
    if isinstance(scope, _FUNCTIONS):
        yield from own_parts(scope)
        return
    stack: list[ast.AST] = list(reversed(scope.body))
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.Lambda)):
            stack.extend(reversed(list(ast.iter_child_nodes(node))))


def _takes_out(parts: list[ast.AST], filters: list[ParameterFilter]) -> bool:
    """Whether something is taken out of lists, or they are copied in part."""
    chosen = {
        id(generator) for one in filters if not isinstance(one.node, ast.For) for generator in one.node.generators
    }
    lists = {
        target.id
        for node in parts
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.List, ast.ListComp, ast.Dict, ast.DictComp))
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in parts:
        if isinstance(node, ast.Delete) or (isinstance(node, ast.Call) and last_name(node.func) in _TAKE_OUT):
            return True
        if isinstance(node, ast.comprehension) and node.ifs and id(node) not in chosen:
            return True
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice) and _is_list(node.value, lists):
            return True
    return False


def _is_list(node: ast.expr, names: set[str]) -> bool:
    return isinstance(node, ast.ListComp) or (isinstance(node, ast.Name) and node.id in names)


def _loop_variables(parts: list[ast.AST]) -> set[str]:
    targets = (node.target for node in parts if isinstance(node, ast.For | ast.comprehension))
    return {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}


def _conditions(one: ParameterFilter) -> list[tuple[ast.expr, int, int]]:
    """What decides whether a parameter is chosen, each with its lines; empty where that is not known."""
    if not isinstance(one.node, ast.For):
        lines = (one.node.lineno, one.node.end_lineno or one.node.lineno)
        return [(test, *lines) for test in one.tests]
    branches = [node for node in ast.walk(one.node) if isinstance(node, ast.If)]
    if one.node.orelse or any(isinstance(node, ast.Try | ast.Match) for node in ast.walk(one.node)):
        return []
    return [
        (node.test, node.lineno, node.test.end_lineno or node.lineno)
        for node in branches
        if not (_all_put(node.body, one.parameter) and _all_put(node.orelse, one.parameter))
    ]


def _all_put(body: list[ast.stmt], parameter: str) -> bool:
    """Whether whatever comes to a block is put into something."""
    return any(
        (_all_put(one.body, parameter) and _all_put(one.orelse, parameter))
        if isinstance(one, ast.If)
        else not hasattr(one, "body") and puts(one, parameter)
        for one in body
    )


def _reads(test: ast.expr, one: ParameterFilter) -> tuple[list[str], bool] | None:
    """Which variables a condition reads beside the name, and whether it asks ``requires_grad``; None for other things.

    What goes by the name goes by it itself or by what the loop computes from it: ``level = level_of(name)``.
    """
    asked = [node for node in ast.walk(test) if isinstance(node, ast.Attribute) and node.attr == "requires_grad"]
    of_parameter = [node for node in ast.walk(test) if isinstance(node, ast.Name) and node.id == one.parameter]
    own = [node for node in asked if isinstance(node.value, ast.Name) and node.value.id == one.parameter]
    if len(own) != len(of_parameter):
        return None
    called = {id(node.func) for node in ast.walk(test) if isinstance(node, ast.Call)}
    names = {node.id for node in ast.walk(test) if isinstance(node, ast.Name) and id(node) not in called}
    derived = {
        target.id
        for node in ast.walk(one.node)
        if isinstance(node, ast.Assign)
        and any(isinstance(part, ast.Name) and part.id == one.name for part in ast.walk(node.value))
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    if not own and names.isdisjoint({one.name, *derived}):
        return None
    return sorted(names - {one.name, one.parameter}), bool(own)


def _given(parts: list[ast.AST], names: list[str], line: int) -> tuple[tuple[str, int, int], ...]:
    """Where names got their values last before a line."""
    found: dict[str, tuple[str, int, int]] = {}
    for node in parts:
        if isinstance(node, ast.Assign) and node.lineno <= line:
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id in names:
                    found[target.id] = (target.id, node.lineno, node.end_lineno or node.lineno)
    return tuple(found.values())

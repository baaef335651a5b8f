"""What decides whether a call for gradients makes a graph of them: what the text of a file tells."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import assigned_names, dotted_name, innermost, last_name, own_parts, parsed

_FUNCTION, _KEYWORD, _MODE = "grad", "create_graph", "training"
_NAMES = 3
"""Names that are followed from one to the next."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


class GraphDecision(NamedTuple):
    """What makes it so that there is none."""

    line: int
    """Where the expression stands, or the condition."""
    by_mode: bool
    """There is a graph in the training mode of a module, and not in evaluation."""
    parameter: str = ""
    """The argument of the function around that has the value, if that is left to its caller."""


def graph_decision(text: str, line: int) -> GraphDecision | None:
    """What decides it for the only call of ``grad`` at a line; None where the text does not say for certain.

    ``create_graph=self.training``; ``create_graph=flag`` after ``flag = self.training and self.learns``, or where
    ``flag`` is an argument; ``grad(...)`` in the other branch of ``if self.training:``.
    """
    tree = parsed(text)
    nodes = ast.walk(tree) if tree is not None else ()
    calls = [node for node in nodes if isinstance(node, ast.Call) and _is_at(node, line, _FUNCTION)]
    if tree is None or len(calls) != 1:
        return None
    scope = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
    given = next((one.value for one in calls[0].keywords if one.arg == _KEYWORD), None)
    if given is None or _is_false(given):
        return _branch(scope or tree, line)
    return _decided(given, scope, scope or tree)


def mode_given(text: str, line: int, function: str, parameter: str) -> GraphDecision | None:
    """What the only call of a function at a line gives for one of its arguments, where that is a module's mode."""
    tree = parsed(text)
    nodes = list(ast.walk(tree)) if tree is not None else []
    calls = [node for node in nodes if isinstance(node, ast.Call) and _is_at(node, line, function)]
    defined = [one for one in nodes if isinstance(one, Function) and one.name == function]
    if tree is None or len(calls) != 1 or len(defined) != 1:
        return None
    value = _argument(calls[0], defined[0], parameter)
    scope = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
    found = _decided(value, scope, scope or tree) if value is not None else None
    return found if found is not None and found.by_mode else None


def called_beside(text: str, line: int, function: str) -> int:
    """The line of the only call of a function in the function around a line, or in the file's own code; 0 for none."""
    tree = parsed(text)
    scope = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef) if tree is not None else None
    nodes = own_parts(scope) if isinstance(scope, Function) else ast.walk(tree) if tree is not None else ()
    calls = [one for one in nodes if isinstance(one, ast.Call) and last_name(one.func) == function]
    return calls[0].lineno if len(calls) == 1 else 0


def _argument(call: ast.Call, function: Function, parameter: str) -> ast.expr | None:
    """The value that a call gives for an argument."""
    names = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
    is_method = isinstance(call.func, ast.Attribute) and names[:1] == ["self"]
    bound = names[1:] if is_method else names
    for keyword in call.keywords:
        if keyword.arg == parameter:
            return keyword.value
    is_plain = not any(isinstance(one, ast.Starred) for one in call.args)
    place = bound.index(parameter) if parameter in bound else len(call.args)
    return call.args[place] if is_plain and place < len(call.args) else None


def _is_at(call: ast.Call, line: int, function: str) -> bool:
    return call.lineno <= line <= (call.end_lineno or 0) and last_name(call.func) == function


def _decided(value: ast.expr, scope: ast.stmt | None, body: ast.AST, names: int = _NAMES) -> GraphDecision | None:
    if _follows_mode(value):
        return GraphDecision(value.lineno, by_mode=True)
    if not isinstance(value, ast.Name) or not names:
        return None
    stored = [one.value for one in ast.walk(body) if isinstance(one, ast.Assign) and value.id in assigned_names(one)]
    if len(stored) == 1:
        return _decided(stored[0], scope, body, names - 1)
    arguments = scope.args if isinstance(scope, Function) else None
    known = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs] if arguments is not None else []
    is_given = not stored and value.id in [one.arg for one in known]
    return GraphDecision(value.lineno, by_mode=False, parameter=value.id) if is_given else None


def _branch(body: ast.AST, line: int) -> GraphDecision | None:
    """The mode of a module by which the program came to a line rather than to another call that makes a graph."""
    for node in ast.walk(body):
        if not isinstance(node, ast.If):
            continue
        is_negated = isinstance(node.test, ast.UnaryOp) and isinstance(node.test.op, ast.Not)
        test = node.test.operand if isinstance(node.test, ast.UnaryOp) and is_negated else node.test
        taken, other = (node.body, node.orelse) if is_negated else (node.orelse, node.body)
        is_taken = any(one.lineno <= line <= (one.end_lineno or 0) for one in taken)
        if is_taken and _follows_mode(test) and any(_makes_graph(one) for each in other for one in ast.walk(each)):
            return GraphDecision(node.test.lineno, by_mode=True)
    return None


def _makes_graph(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and any(
        one.arg == _KEYWORD and isinstance(one.value, ast.Constant) and one.value.value is True for one in node.keywords
    )


def _follows_mode(value: ast.expr) -> bool:
    """Whether an expression is false in evaluation mode, whatever else is in it."""
    match value:
        case ast.Attribute(attr=attribute):
            return attribute == _MODE and bool(dotted_name(value))
        case ast.BoolOp(op=ast.And(), values=values):
            return any(map(_follows_mode, values))
        case ast.Call(func=ast.Name(id="bool"), args=[given]):
            return _follows_mode(given)
        case ast.IfExp(test=test, orelse=other):
            return _follows_mode(test) and _is_false(other)
    return False


def _is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False

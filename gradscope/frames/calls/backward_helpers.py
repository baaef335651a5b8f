"""Functions of a program that call backward for who calls them, and do nothing else: ``engine.backward(loss)``."""

from __future__ import annotations

import ast
from types import CodeType

from gradscope.frames.syntax_trees import parsed

_CALLED = "backward"
_SCALES = frozenset(("scale", "scale_loss"))


def calls_backward_only(code: CodeType, text: str) -> bool:
    """Whether a function does no more than to hand a loss that it is given on to ``backward``, scaled or not.

    What such a function does is decided where it is called. One that sets something itself (``retain_graph=True``) or
    does a second thing, a step or a norm, is a place of its own.

    Args:
        code: Of the function.
        text: Of its file.
    """
    if _CALLED not in code.co_names:
        return False
    tree = parsed(text)
    functions = (node for node in ([] if tree is None else ast.walk(tree)) if isinstance(node, ast.FunctionDef))
    place = code.co_name, code.co_firstlineno
    return any((one.name, one.lineno) == place and _HandingOn(one).hands_on for one in functions)


class _HandingOn:
    """A function that may be one."""

    def __init__(self, function: ast.FunctionDef) -> None:
        arguments = function.args
        given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        self._given = {one.arg for one in given if one is not None}
        self._passes = 0
        body = function.body[1:] if ast.get_docstring(function) is not None else function.body
        self.hands_on = all(map(self._is_plain, body)) and self._passes > 0

    def _is_plain(self, statement: ast.stmt) -> bool:
        if isinstance(statement, ast.If):
            return not _calls(statement.test) and all(map(self._is_plain, [*statement.body, *statement.orelse]))
        if isinstance(statement, ast.Assign):
            target = statement.targets[0]
            return isinstance(target, ast.Name) and target.id in self._given and self._is_loss(statement.value)
        return isinstance(statement, ast.Expr | ast.Return) and self._is_pass(statement.value)

    def _is_pass(self, call: ast.expr | None) -> bool:
        """``loss.backward(**options)``, where all options are those that the function was given."""
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr != _CALLED:
            return False
        options = [*call.args, *(one.value for one in call.keywords)]
        options = [one.value if isinstance(one, ast.Starred) else one for one in options]
        self._passes += 1
        return self._is_loss(call.func.value) and all(isinstance(one, ast.Name) for one in options)

    def _is_loss(self, value: ast.expr) -> bool:
        """A loss that the function was given, also divided by a number or scaled: ``self.scaler.scale(loss)``."""
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Div | ast.Mult):
            return self._is_loss(value.left) and not _calls(value.right)
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in _SCALES:
            return len(value.args) == 1 and self._is_loss(value.args[0])
        return isinstance(value, ast.Name) and value.id in self._given and value.id != "self"


def _calls(value: ast.expr) -> bool:
    return any(isinstance(part, ast.Call) for part in ast.walk(value))

"""Expressions whose every part is known once they are evaluated, as pytest shows a failed ``assert``.

Each sub-expression is evaluated once, in Python's own order, by Python itself: the expression is compiled with each
part wrapped in a call that notes its value and passes it on.
"""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from gradscope.analysis.check_results import Part
from gradscope.errors import UsageError
from gradscope.expressions.private_names import with_private_names
from gradscope.expressions.watched_expression import one_line

_NOTE = "@note"
"""No name that a program could have."""
_SHOWN_ELEMENTS = 16
"""Elements of the largest tensor whose values are shown."""
_PLAINLY_FALSE = ("False", "tensor(False)")
_SELF_EVIDENT = (ModuleType, type, FunctionType, BuiltinFunctionType, MethodType)
_OWN_SCOPE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.JoinedStr)


class NotingExpression:
    """An expression of the user's, compiled so that the values of its parts can be told.

    Args:
        expression: Its text.
        option: Where it comes from, for the error message.
        class_name: The class that it stands in.

    Raises:
        UsageError: It is no Python expression.
    """

    def __init__(self, expression: str, option: str, class_name: str = "") -> None:
        self.text = expression.strip()
        try:
            compile(self.text, "<expect>", "eval", dont_inherit=True)
            tree = ast.parse(self.text, "<expect>", "eval")
        except (SyntaxError, ValueError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else str(error)
            raise UsageError(f"{option} {expression!r} is no Python expression: {reason}") from error
        self.names = frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
        """Names that it uses."""
        self.calls = frozenset(_called(node) for node in ast.walk(tree) if isinstance(node, ast.Call))
        """Names of the functions that it calls; empty for what is called by another expression than a name."""
        wrapping = _Wrapping(self.text)
        wrapped = ast.fix_missing_locations(wrapping.visit(with_private_names(tree, class_name)))
        self._parts = wrapping.parts
        self._code: CodeType = compile(wrapped, "<expect>", "eval", dont_inherit=True)

    def evaluate(self, names: Mapping[str, Any], note: Callable[[int, Any], None] | None = None) -> Any:
        """Its value with these names; what it raises passes through.

        Args:
            names: Everything that it can name; the mapping stays as it is.
            note: Takes the number of a part and its value, as they come.
        """
        scope = {**names, "__warningregistry__": {}, _NOTE: _Notes(note)}
        return eval(self._code, scope)

    def describe(self, values: Mapping[int, Any]) -> tuple[Part, ...]:
        """The parts whose values say something, in source order."""
        described: dict[str, str] = {}
        for number, expression in enumerate(self._parts):
            if number not in values or expression in described or isinstance(values[number], _SELF_EVIDENT):
                continue
            text = describe_value(values[number])
            if text != expression and not (expression == self.text and text in _PLAINLY_FALSE):
                described[expression] = text
        return tuple(Part(expression, text) for expression, text in described.items())


def describe_value(value: Any) -> str:
    """A value on one line; of a large tensor only what it is."""
    try:
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(value, torch.Tensor) or value.numel() <= _SHOWN_ELEMENTS:
            return one_line(value)
        text = (
            f"{type(value).__name__} {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')} on {value.device}"
        )
        return text + (", requires_grad=True" if value.requires_grad else "")
    except Exception as error:
        return f"<{type(error).__name__} in repr>"


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


class _Notes:
    """What stands behind the wrapping calls."""

    def __init__(self, note: Callable[[int, Any], None] | None) -> None:
        self._note = note

    def __call__(self, number: int, value: Any) -> Any:
        if self._note is not None:
            self._note(number, value)
        return value


class _Wrapping(ast.NodeTransformer):
    """Wraps the parts of an expression; what runs in a scope of its own (a lambda, a comprehension) is one part."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.parts: list[str] = []

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, _OWN_SCOPE):
            return self._wrapped(node, node)
        if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            return node
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(
            node, (ast.Name, ast.Attribute, ast.Subscript, ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.IfExp)
        ):
            return self._wrapped(node, None)
        return self.generic_visit(node)

    def _call(self, node: ast.Call) -> ast.expr:
        number = self._number(node)
        if isinstance(node.func, ast.Attribute):
            node.func.value = self.visit(node.func.value)
        elif not isinstance(node.func, ast.Name):
            node.func = self.visit(node.func)
        node.args = [self.visit(argument) for argument in node.args]
        node.keywords = [self.visit(keyword) for keyword in node.keywords]
        return self._noting(number, node)

    def _wrapped(self, node: ast.expr, whole: ast.expr | None) -> ast.expr:
        number = self._number(node)
        return self._noting(number, whole or self.generic_visit(node))

    def _number(self, node: ast.expr) -> int:
        segment = ast.get_source_segment(self._source, node)
        self.parts.append(" ".join((segment or ast.unparse(node)).split()))
        return len(self.parts) - 1

    def _noting(self, number: int, node: Any) -> ast.expr:
        call = ast.Call(ast.Name(_NOTE, ast.Load()), [ast.Constant(number), copy.copy(node)], [])
        return ast.copy_location(call, node)

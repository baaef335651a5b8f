"""A watched expression, and its value as a row shows it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from gradscope.errors import UsageError
from gradscope.expressions.extra_names import tensor_functions
from gradscope.expressions.plain_values import on_one_line
from gradscope.expressions.private_names import with_private_names
from gradscope.expressions.undisturbed import undisturbed

LONGEST = 200
"""Characters of a value's text that are kept."""


class WatchedExpression:
    """An expression of the user's, compiled.

    Args:
        text: The expression.
        option: Where it comes from, for the error message.
        class_name: The class that it stands in.

    Raises:
        UsageError: It is no Python expression.
    """

    def __init__(self, text: str, option: str = "# watch:", class_name: str = "") -> None:
        self.text = text
        try:
            tree = with_private_names(ast.parse(text.strip(), "<watch>", "eval"), class_name)
            self._code = compile(tree, "<watch>", "eval", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else str(error)
            raise UsageError(f"{option} {text!r} is no Python expression: {reason}") from error
        nodes = list(ast.walk(tree))
        self.names = {node.id for node in nodes if isinstance(node, ast.Name)}
        """Names that it uses."""
        self._may_draw = any(isinstance(node, ast.Call) for node in nodes)

    def value(self, names: Mapping[str, Any]) -> tuple[str, Any, bool]:
        """Text, value, and whether it raised; the text is then the error's.

        Args:
            names: The program's; they go before those of the functions that ask tensors.
        """
        registry: dict[str, Any] = {"__warningregistry__": {}}  # else the program's own warning might not be shown
        with undisturbed(may_draw=self._may_draw):
            try:
                value = eval(self._code, {**tensor_functions(), **names, **registry})
                return one_line(value), value, False
            except Exception as error:
                return on_one_line(f"{type(error).__name__}: {error}")[:LONGEST], None, True


def one_line(value: Any) -> str:
    """``repr`` of a value on one line, cut where it is long."""
    text = on_one_line(repr(value))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"

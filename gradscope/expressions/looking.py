"""One evaluation of the expression of a question: the tensor that it names, and what is to be said of its values."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from gradscope.analysis.why.asked import Looked, Numbers, Question
from gradscope.expressions.plain_values import on_one_line
from gradscope.expressions.undisturbed import undisturbed

_MESSAGE = 100
"""Characters of an error's message."""
_EXACT = 1 << 24
"""Elements up to which a tensor is looked at in double precision, of which a copy is made."""


class Looking:
    """Evaluates an expression with the names of some place.

    Args:
        question: What was asked; a question without an expression is never looked at.
    """

    def __init__(self, question: Question) -> None:
        self._question = question
        if question.expression:
            self._tensor = compile(question.tensor, "<why>", "eval", dont_inherit=True)
            self._whole = compile(question.expression, "<why>", "eval", dont_inherit=True)

    def look(
        self, names: Mapping[str, Any], where: str, op: int, row_of: Callable[[Any], int]
    ) -> tuple[Looked, Any | None]:
        """What the expression gives, and its tensor; nothing but an interrupt passes through.

        Args:
            names: What it may name.
            where: How a sentence says where that is: ``where the program ends``.
            op: The number of ops seen before it.
            row_of: The row of a tensor that was seen.
        """
        with undisturbed(may_draw=True):
            try:
                return self._looked_at(op, names, row_of)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                is_unknown = isinstance(error, (NameError, AttributeError, KeyError, IndexError))
                said = on_one_line(f"{type(error).__name__}: {error}")[:_MESSAGE]
                said = f"{self._question.expression}, evaluated {where}, raises {said}"
                return Looked(op, error=said, is_unknown=is_unknown), None

    def _looked_at(self, op: int, names: Mapping[str, Any], row_of: Callable[[Any], int]) -> tuple[Looked, Any | None]:
        import torch

        scope = {**names, "__warningregistry__": {}}
        value = eval(self._tensor, scope)
        if not isinstance(value, torch.Tensor) and self._question.of_gradient:
            value = eval(self._whole, scope)  # an object of the program's own that has a ``grad``
        if not isinstance(value, torch.Tensor):
            hint = _what_to_ask(value, self._question, names)
            return Looked(op, error=_no_tensor(self._question.tensor, value), hint=hint), None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about .grad of a result: the answer says it
            gradient = value.grad
        look = Looked(
            op,
            row_of(value),
            is_none=gradient is None,
            values=_numbers(value),
            gradient=None if gradient is None else _numbers(gradient),
            shape=str(tuple(value.shape)),
            requires_grad=value.requires_grad,
        )
        return look, value


def _numbers(tensor: Any) -> Numbers | None:
    """What a tensor holds; None where that cannot be asked (a meta tensor, text of a subclass)."""
    import torch

    with torch.no_grad():
        try:
            values = (tensor.to_dense() if tensor.layout is not torch.strided else tensor).detach()
            values = torch.view_as_real(values.resolve_conj()) if values.is_complex() else values
            values = (values.double() if values.numel() <= _EXACT else values.float()).flatten()
            finite = values[torch.isfinite(values)]
            known = values[~torch.isnan(values)]
            low, high = (known.min().item(), known.max().item()) if known.numel() else (0.0, 0.0)
            return Numbers(
                values.numel(),
                finite.norm().item(),
                low,
                high,
                int(torch.isnan(values).sum().item()),
                int(torch.isinf(values).sum().item()),
            )
        except (RuntimeError, NotImplementedError, TypeError):
            return None


def _no_tensor(expression: str, value: Any) -> str:
    if value is None:
        return f"{expression} is None, no tensor"
    kind = type(value).__name__
    return f"{expression} is {'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}, no tensor"


def _what_to_ask(value: Any, question: Question, names: Mapping[str, Any]) -> str:
    """A tensor that may be meant: a module's parameter, or what the value was taken from."""
    import torch

    if isinstance(value, torch.nn.Module):
        name = next((name for name, _ in value.named_parameters()), "")
        return f"ask for one of its parameters: {question.tensor}.{name}.grad" if name else ""
    for node in ast.walk(ast.parse(question.tensor, mode="eval")):
        if isinstance(node, ast.Name) and isinstance(names.get(node.id), torch.Tensor):
            return f"ask for a tensor: {node.id}"
    return "ask for a tensor, such as x, x.grad or model.fc.weight.grad"

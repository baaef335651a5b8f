"""Plain numbers that calls are given: ``average.mul_(0.99)``, ``lerp_(weight, 0.01)``, ``dropout_p=0.1``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ADDS = frozenset(("Tensor.add", "Tensor.add_", "torch.add", "Tensor.sub", "Tensor.sub_", "torch.sub"))
_LERPS = frozenset(("Tensor.lerp", "Tensor.lerp_", "torch.lerp"))
TAKES_FACTOR = frozenset(
    ("Tensor.mul", "Tensor.mul_", "torch.mul", "Tensor.div", "Tensor.div_", "torch.div", *_ADDS, *_LERPS)
)
"""Functions that are given one by which tensors are mixed."""
_OPERANDS = 2
ATTENTION = "F.scaled_dot_product_attention"
_DROPOUT_P = 4


def plain_factor(function: str, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> float | None:
    """The number of Python's own by which a call multiplies or divides, or one operand counts; None where it has none.

    Args:
        function: One of those above.
        args: Its arguments, the tensor of a method first.
        kwargs: Likewise.
    """
    if function in _ADDS:
        value = (kwargs or {}).get("alpha")
    elif function in _LERPS:
        value = args[_OPERANDS] if len(args) > _OPERANDS else (kwargs or {}).get("weight")
    else:
        value = next((one for one in args if type(one) is float), None)
    return float(value) if isinstance(value, (int, float)) else None


def dropped_share(args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> float:
    """The share of its weights that a call of scaled_dot_product_attention drops, whatever the mode; 0 for none."""
    value = args[_DROPOUT_P] if len(args) > _DROPOUT_P else (kwargs or {}).get("dropout_p")
    return float(value) if isinstance(value, (int, float)) else 0.0

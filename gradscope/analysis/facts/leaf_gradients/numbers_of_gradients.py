"""Gradients of which nothing but a number was taken: a norm for a log, a look for NaN.

A number that is printed or kept is no use of the gradient that it was computed of. One that goes on as a tensor is:
into a loss, a scale of other gradients, a parameter.
"""

from __future__ import annotations

from gradscope.analysis.index import Index
from gradscope.recording.rows import OpKind

_LOOKS_AT = frozenset(
    f"Tensor.{name}"
    for name in (
        *("norm", "abs", "pow", "square", "sqrt", "sum", "mean", "max", "min", "amax", "amin", "std", "var", "median"),
        *("isnan", "isinf", "isfinite", "any", "all", "count_nonzero", "ne", "eq", "__ne__", "__eq__", "__pow__"),
        *("detach", "data.__get__", "float", "double", "cpu", "to", "flatten", "reshape", "view", "ravel", "numel"),
        *("stack", "cat", "hstack", "concatenate", "histc", "quantile", "logical_not", "__invert__"),
    )
) | {"torch.linalg.norm", "torch.linalg.vector_norm", "torch._foreach_norm", "linalg.norm", "linalg.vector_norm"}
"""Calls on the way from a gradient to a number."""
_NORMS = frozenset(("nn.utils.get_total_norm", "nn.utils._get_total_norm", "nn.utils.clip_grad_norm_"))
"""Functions of torch's that give one, of which the last one writes the gradients as well."""
_FOLLOWED = 400
"""Calls that are followed from one gradient on."""


def is_for_numbers(index: Index, gradient: int, use: int) -> bool:
    """Whether what a call took of a gradient ends in numbers, or in tensors that nothing takes."""
    todo, seen = [(gradient, use)], {use}
    while todo:
        taken, op = todo.pop()
        made = _made_of(index, taken, op, taken == gradient)
        if made is None or len(seen) > _FOLLOWED:
            return False
        for one in made:
            later = [user for user in index.users.of(one) if user > op and user not in seen]
            todo += [(one, user) for user in later]
            seen.update(later)
    return True


def _made_of(index: Index, taken: int, op: int, is_gradient: bool) -> list[int] | None:
    """What a call made of one tensor on the way to a number; None where it does something else with it."""
    func, is_number = index.func(op), not is_gradient and index.has_one_element(taken)
    if func in _NORMS:
        return [one for one in index.tensors_made(op) if index.has_one_element(one)]
    kind = index.recording.ops.column("kind")[op]
    if kind == OpKind.EXPORT:  # (who reads all values of a tensor may compute anything of them)
        return [] if index.has_one_element(taken) else None
    made = [*index.tensors_made(op), *index.results.of(op)]
    if kind != OpKind.CALL or func.endswith(".__set__") or not made:
        return None
    is_look = func in _LOOKS_AT or index.method(op) in _LOOKS_AT
    nodes = index.recording.tensors.column("node")
    if any(nodes[one] >= 0 for one in made) or (not is_look and not is_number):
        return None
    if not is_look and not all(map(index.has_one_element, made)):
        return None
    return None if taken in made and not is_number else made

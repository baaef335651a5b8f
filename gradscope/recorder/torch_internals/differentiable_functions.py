"""Which torch functions can be called a second time, on copies, to have autograd differentiate what a forward did.

None draws random numbers, writes or warns. What steps or has a kink is not among them: whoever writes a backward for
that means another one than autograd's.
"""

from __future__ import annotations

from enum import Enum


class Dependence(Enum):
    """How a function's result depends on its tensors."""

    ALIAS = 1
    """It is its first argument itself, but for its history."""
    LINEAR = 2
    BILINEAR = 3
    """A product of two of them."""
    QUOTIENT = 4
    CURVED = 5


_ALIASES = "detach data.__get__"
_LINEAR = """
    add sub subtract __radd__ __rsub__ rsub neg negative positive sum mean view reshape transpose T.__get__ mT.__get__
    t permute expand squeeze unsqueeze __getitem__ cat concat stack clone contiguous flatten unflatten movedim narrow
    chunk split unbind diagonal trace repeat broadcast_to expand_as view_as reshape_as swapaxes roll flip tril triu
    cumsum double float to type_as select amax amin max min
"""
_BILINEAR = "mul multiply __rmul__ matmul mm bmm mv dot einsum outer inner linear baddbmm addmm __matmul__ __rmatmul__"
_QUOTIENTS = "div divide true_divide"
_CURVED = """
    __rdiv__ __rtruediv__ exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal square pow __pow__ __rpow__ tanh
    sigmoid erf erfc sin cos tan asin acos atan sinh cosh atan2 hypot softmax log_softmax logsumexp logaddexp norm
    vector_norm var std softplus logsigmoid silu gelu mish prod addcmul addcdiv normalize cosine_similarity logit lgamma
    inverse inv det logdet cholesky solve
"""
_TWO = 2
_OWNERS = ("Tensor", "torch", "F", "torch.linalg", "torch.special")
_OF: dict[str, Dependence] = {
    **dict.fromkeys(_ALIASES.split(), Dependence.ALIAS),
    **dict.fromkeys(_LINEAR.split(), Dependence.LINEAR),
    **dict.fromkeys(_BILINEAR.split(), Dependence.BILINEAR),
    **dict.fromkeys(_QUOTIENTS.split(), Dependence.QUOTIENT),
    **dict.fromkeys(_CURVED.split(), Dependence.CURVED),
}


def dependence_of(function: str, tracked: int) -> Dependence | None:
    """How what a function gives depends on its tensors; None for one that is not to be called again.

    Args:
        function: Its name, as it is shown.
        tracked: How many tensors it takes of which the derivative is asked.
    """
    for owner in _OWNERS:
        if function.startswith(f"{owner}.") and (kind := _OF.get(function[len(owner) + 1 :])) is not None:
            if kind is Dependence.BILINEAR and tracked < _TWO:
                return Dependence.LINEAR
            if kind is Dependence.QUOTIENT:
                return Dependence.LINEAR if tracked < _TWO else Dependence.CURVED
            return kind
    return None

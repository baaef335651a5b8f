"""Which graph nodes have derivatives that end: infinite at a value, zero over a range.

The names are those of the nodes without ``Backward0``.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"Backward\d+$")

POLES = frozenset(
    """
    Sqrt Rsqrt Reciprocal Div Pow Log Log2 Log10 Log1P Acos Asin Acosh Atanh Atan2 Logit Xlogy SpecialXlog1Py Erfinv
    Std Var StdMean VarMean Logsumexp Logcumsumexp Norm LinalgVectorNorm Cdist Prod
    Cumprod Tan Lgamma Digamma Renorm SpecialEntr Logaddexp Logaddexp2 Hypot Fmod Remainder Cosh Sinh
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Their result or their derivative may be infinite or not a number though what goes in is finite."""

INVERSES = frozenset(("Rsqrt",))
"""What they give, which they keep, is zero for an infinity alone: in float16 the largest number gives 0.004."""

ENDING = frozenset(("Softmax", "LogSoftmax", "SafeSoftmax", "Exp", "Exp2", "Expm1"))
"""Only their result may be: they keep it, and the derivative ends where the result does."""

SATURATES = frozenset(("Softmax", "SafeSoftmax"))
"""Their derivatives are zero where all that they give, which they keep, is 0 or 1."""

DECOMPOSITIONS = frozenset(("LinalgEigh", "LinalgEig", "LinalgSvd", "LinalgQr", "LinalgSlogdet"))
"""Likewise where two of their values are equal, or one is zero; what a derivative costs is not proportional to its
size."""

KEEPS_FLAT = {"Relu": (0.0,), "Sigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0)}
"""Their derivatives are zero where their results, which they keep, are one of these values."""

FACTORS = {"Mul": (0.0,)}
"""Likewise where the factor that they keep is zero: asked where it is one number and what it multiplies is tracked."""

PRODUCTS = frozenset(("Addmm", "Addmv", "Mm", "Mv", "Bmm", "Baddbmm", "Linear", "Convolution"))
"""Their derivatives are zero where what they keep is: asked in float16, where they may be zero without that, too."""

FLAT_BESIDE = frozenset(("Minimum", "Maximum", "Where"))
"""Likewise zero for some values, of two tensors each of which may get a gradient: asked where one alone does."""

FLAT = frozenset(("Clamp", "ClampMin", "ClampMax", "Hardtanh", "Threshold", "Hardsigmoid"))
"""Their derivative is zero for some values: where it is for all of them, nothing flows back."""

BY_ARGUMENT: dict[str, tuple[str, tuple[object, ...], tuple[int, ...]]] = {
    "GridSampler2D": ("interpolation_mode", (1,), (1,)),
    "GridSampler3D": ("interpolation_mode", (1,), (1,)),
    "Div": ("rounding_mode", ("floor", "trunc"), ()),
    "Pow": ("exponent", (0,), ()),
    "Norm": ("p", (0,), ()),
    "LinalgVectorNorm": ("ord", (0,), ()),
    "Dist": ("p", (0,), ()),
    "Cdist": ("p", (0,), ()),
    "Pdist": ("p", (0,), ()),
}
"""Zero whatever goes in where an argument that the node keeps is one of some: by which inputs (none: by each). Sampling
``nearest`` to the points of a grid does not change with these; a norm with p = 0 counts."""


def kind_of(node_name: str) -> str:
    """The name of a node's function: ``Sqrt`` for ``SqrtBackward0``; a Function of the program's has no number."""
    return _NUMBER.sub("", node_name)

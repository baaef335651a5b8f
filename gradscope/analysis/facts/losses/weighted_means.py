"""A mean over samples that is multiplied by a weight for each sample, and then made one number again; or by a factor
that is meant for the loss of one sample.

The mean of ``s * w`` is ``s`` times the mean of ``w``: each sample has the same part in it, whatever its weight is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modules.places_of_modules import only_module
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording.flags import BELOW

_MODULES = {
    "F.cross_entropy": "CrossEntropyLoss",
    "F.nll_loss": "NLLLoss",
    "F.mse_loss": "MSELoss",
    "F.l1_loss": "L1Loss",
    "F.smooth_l1_loss": "SmoothL1Loss",
    "F.huber_loss": "HuberLoss",
    "F.binary_cross_entropy": "BCELoss",
    "F.binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
}
"""Losses that average over samples unless they are told not to, and the modules that call them."""

_BY_TARGET = ("F.cross_entropy", "F.nll_loss")
"""Losses that give one number for each element of their target."""

_LIKELIHOODS = frozenset(
    ("F.cross_entropy", "F.nll_loss", "F.binary_cross_entropy", "F.binary_cross_entropy_with_logits")
)
"""Losses of one sample that are the negative logarithm of a probability."""

_REDUCES = frozenset(("Tensor.mean", "Tensor.sum"))
_PRODUCT = "Tensor.mul"
_NUMBERS = frozenset(("neg", "__neg__", "mul", "div", "add", "sub", "__rsub__", "rsub", "exp"))
_STEPS = 4
"""Calls from the mean to the product."""
_FACTORS = _NUMBERS | {"pow", "square", "sub", "clamp", "clamp_min", "clamp_max"}


class FactorOfMean(NamedTuple):
    """A product of a mean and a factor that is computed from it as from the loss of one sample."""

    averaged: int
    """The op that made one number of the losses."""
    product: int
    raised: int
    """The op that takes the exponential of it, for the probability of a sample."""
    made_at: tuple[int, int] | None
    """See :attr:`WeightedMean.made_at`."""


class WeightedMean(NamedTuple):
    """One product of a mean and the weights of what it is the mean of."""

    averaged: int
    """The op that made one number."""
    product: int
    reduced: int
    """The op that made one number of the product."""
    weights: int
    """The tensor."""
    size: str
    """Its shape."""
    made_at: tuple[int, int] | None
    """File and line at which the program makes the only module that averages, where a module did."""


def weighted_means(index: Index, passes: Passes) -> Iterator[WeightedMean]:
    """The last one of each statement that multiplies, of those that a backward pass came through."""
    found = dict[int, WeightedMean]()
    for op in _products_of_numbers(index, passes):
        weighted = _weighted(index, op)
        if weighted is not None:
            found[index.op_statement[op]] = weighted
    yield from found.values()


def _products_of_numbers(index: Index, passes: Passes) -> Iterator[int]:
    """Products of two tensors, one of them a number at least, that a backward pass came through."""
    recording, tensors = index.recording, index.recording.tensors
    layout_of, nodes = tensors.column("layout"), tensors.column("node")
    numbers = {number for number, layout in enumerate(recording.layouts) if recording.text(layout.shape) == "()"}
    taking = {op for op, tensor in zip(index.uses.keys, index.uses.values, strict=True) if layout_of[tensor] in numbers}
    for op in filter(taking.__contains__, index.calls_of_methods(_PRODUCT)):
        made = index.tensors_made(op)
        node = nodes[made[0]] if len(made) == 1 and len(index.uses.of(op)) == 2 else -1
        if node >= 0 and passes.first_walked_at[node] >= 0:
            yield op


def factors_of_means(index: Index, passes: Passes) -> Iterator[FactorOfMean]:
    """The last one of each statement that multiplies, of those that a backward pass came through: a focal loss."""
    found = dict[int, FactorOfMean]()
    losses = [op for op in index.calls_of(_LIKELIHOODS.__contains__) if _is_number(index, op)]
    for op in _products_of_numbers(index, passes) if losses else ():
        taken = list(index.uses.of(op))
        for loss, factor in (taken, taken[::-1]):
            averaged, raised = _likelihood(index, loss)
            of_factor, exponential = _likelihood(index, factor)
            is_of_it = averaged >= 0 and averaged == of_factor and raised < 0 <= exponential
            if is_of_it and _sizes(_shape(index, _averaged_over(index, averaged))):
                found[index.op_statement[op]] = FactorOfMean(averaged, op, exponential, _made_at(index, averaged))
    yield from found.values()


def _likelihood(index: Index, number: int) -> tuple[int, int]:
    """The op of the loss that a number is computed from alone, and an exponential on the way; -1 for what is not."""
    raised = -1
    for _ in range(2 * _STEPS):
        op = index.made_by(number)
        taken = list(index.uses.of(op)) if 0 <= op < index.op_count else []
        if taken and index.func(op) in _LIKELIHOODS:
            return op, raised
        method = index.func(op).rpartition(".")[2] if taken else ""
        if len(taken) != 1 or method not in _FACTORS:
            return -1, -1
        raised = op if method == "exp" else raised
        number = taken[0]
    return -1, -1


def _averaged_over(index: Index, loss: int) -> int:
    """The tensor for each of whose elements a loss has one number, before it averages."""
    taken = list(index.uses.of(loss))
    return taken[1] if index.func(loss) in _BY_TARGET and len(taken) > 1 else taken[0]


def _made_at(index: Index, averaged: int) -> tuple[int, int] | None:
    """See :attr:`WeightedMean.made_at`."""
    is_below = bool(index.recording.ops.column("flags")[averaged] & BELOW)
    return only_module(index, _MODULES.get(index.func(averaged), "")) if is_below else None


def _weighted(index: Index, op: int) -> WeightedMean | None:
    nodes, taken, made = index.recording.tensors.column("node"), list(index.uses.of(op)), index.tensors_made(op)
    for number, weights in (taken, taken[::-1]):
        shape = _shape(index, weights)
        if nodes[weights] >= 0 or shape in ("()", "(1,)") or index.requires_grad(weights, op):
            continue
        averaged = _averaged(index, number, shape) if _shape(index, number) == "()" else -1
        users = [one for one in index.users.of(made[0]) if 0 <= one < index.op_count]
        reduced = [one for one in users if index.method(one) in _REDUCES and _is_number(index, one)]
        if averaged >= 0 and reduced and _shape(index, made[0]) == shape and len(users) == len(reduced):
            return WeightedMean(averaged, op, reduced[0], weights, shape, _made_at(index, averaged))
    return None


def _is_number(index: Index, op: int) -> bool:
    made = index.tensors_made(op)
    return len(made) == 1 and _shape(index, made[0]) == "()"


def _averaged(index: Index, number: int, shape: str) -> int:
    """The op that made a number of elements of a shape by taking their mean or sum; -1 where it was made otherwise."""
    for _ in range(_STEPS):
        op = index.made_by(number)
        taken = list(index.uses.of(op)) if 0 <= op < index.op_count else []
        func = index.func(op)
        if not taken:
            return -1
        if func in _MODULES:
            return op if _same_count(_shape(index, _averaged_over(index, op)), shape) else -1
        if index.method(op) in _REDUCES:
            return op if _same_count(_shape(index, taken[0]), shape) else -1
        if func.rpartition(".")[2] not in _NUMBERS or len(taken) != 1:
            return -1
        number = taken[0]
    return -1


def _same_count(first: str, second: str) -> bool:
    """Whether two shapes are one, but for sizes of 1: ``(8, 1)`` and ``(8,)``."""
    return _sizes(first) == _sizes(second)


def _sizes(shape: str) -> list[str]:
    return [size for size in shape.strip("()").replace(" ", "").split(",") if size not in ("", "1")]


def _shape(index: Index, tensor: int) -> str:
    return index.recording.text(index.recording.layouts[index.recording.tensors.column("layout")[tensor]].shape)

"""Losses that take logits and were given probabilities, or that take logarithms of them and were given logits."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modules.places_of_modules import only_module
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording.flags import BELOW

_TAKES = {
    "F.cross_entropy": "logits",
    "F.binary_cross_entropy_with_logits": "logits",
    "F.multilabel_soft_margin_loss": "logits",
    "F.nll_loss": "log-probabilities",
    "F.kl_div": "log-probabilities",
    "F.gumbel_softmax": "logits",
}
"""What each loss takes as its first argument. (Of logarithms of a softmax, cross entropy gives what it gives of the
logits: they are not looked for.)"""

_DISTRIBUTION = re.compile(
    r"distributions\.(Categorical|OneHotCategorical|OneHotCategoricalStraightThrough|RelaxedOneHotCategorical|Bernoulli"
    r"|RelaxedBernoulli|ContinuousBernoulli|Binomial|Geometric|Multinomial)\.__init__"
)
"""What takes logits where it is given them by that name."""
_BY_NAME = re.compile(r"\blogits\s*=")

_AGAIN = {"softmax": frozenset(("softmax",)), "sigmoid": frozenset(("sigmoid",))}
"""What is applied twice by mistake: each takes logits."""

_GIVES = {
    "softmax": "Softmax",
    "sigmoid": "Sigmoid",
}
"""Functions that give probabilities, and the modules that call them."""

_OF_LOGITS = frozenset(("F.cross_entropy", "F.binary_cross_entropy_with_logits"))
_RECTIFIES = frozenset(("relu", "relu_", "relu6"))

LAYERS = frozenset(("linear", "conv1d", "conv2d", "conv3d", "bilinear"))
"""Functions whose results are logits, where a loss is computed from them."""

_AS_IT_IS = frozenset(
    """
    view reshape flatten squeeze unsqueeze transpose permute contiguous __getitem__ float double half to type t movedim
    clone unflatten swapaxes type_as
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Functions that leave the values as they are."""

_STEPS = 8
"""Such calls between the two that are followed."""


class LossOfProbabilities(NamedTuple):
    """One call of a loss that was given probabilities."""

    loss: int
    """The op."""
    gives: int
    """The op that gave the probabilities."""
    takes: str
    """What the loss takes: ``logits``."""
    made_at: tuple[int, int] | None
    """File and line at which the program makes the only module that calls the function, where a module called it."""
    is_inside: bool
    """Other calls come from the same line: a module around it called it."""


def losses_of_probabilities(index: Index, passes: Passes) -> Iterator[LossOfProbabilities]:
    """Each pair of lines once, of the losses that a backward pass came through."""
    nodes, seen = index.recording.tensors.column("node"), set[tuple[int, int]]()
    for loss in index.calls_of(lambda name: bool(_takes(name))):
        taken, takes = index.uses.of(loss), _takes(index.func(loss))
        is_distribution = bool(_DISTRIBUTION.fullmatch(index.func(loss)))
        through = list(taken[:1]) if is_distribution else index.tensors_made(loss)[:1]
        if not len(taken) or not through or nodes[through[0]] < 0 or passes.first_walked_at[nodes[through[0]]] < 0:
            continue
        if is_distribution and not _BY_NAME.search(index.span_source(loss)):
            continue
        gives = _origin(index, taken[0], takes == "log-probabilities")
        again = _AGAIN.get(_last(index, loss))
        if gives >= 0 and again is not None and _last(index, gives) not in again:
            continue
        key = (index.op_statement[loss], index.op_statement[gives] if gives >= 0 else -1)
        if gives >= 0 and key not in seen:
            seen.add(key)
            yield _pair(index, loss, gives, takes, _GIVES.get(_last(index, gives), ""))


def losses_of_rectified(index: Index, passes: Passes) -> Iterator[LossOfProbabilities]:
    """Each pair of lines once of losses that take logits and were given what a ReLU gave, as it is."""
    nodes, seen = index.recording.tensors.column("node"), set[tuple[int, int]]()
    for loss in index.calls_of(_OF_LOGITS.__contains__):
        taken, made = index.uses.of(loss), index.tensors_made(loss)
        if not len(taken) or not made or nodes[made[0]] < 0 or passes.first_walked_at[nodes[made[0]]] < 0:
            continue
        gives = _origin(index, taken[0], takes_logarithms=False, wanted=_RECTIFIES)
        key = (index.op_statement[loss], index.op_statement[gives] if gives >= 0 else -1)
        if gives >= 0 and key not in seen:
            seen.add(key)
            yield _pair(index, loss, gives, "logits", "ReLU")


def _pair(index: Index, loss: int, gives: int, takes: str, module: str) -> LossOfProbabilities:
    """Two calls that do not fit; the second may be made by the only module of a class."""
    is_below = bool(index.recording.ops.column("flags")[gives] & BELOW)
    made = only_module(index, module) if is_below else None
    return LossOfProbabilities(loss, gives, takes, made, is_below and _comes_with_others(index, gives))


def _takes(name: str) -> str:
    """What a call of a name takes; empty where that is not known."""
    is_like_one = bool(_DISTRIBUTION.fullmatch(name)) or name.rpartition(".")[2] in _AGAIN
    return _TAKES.get(name, "logits" if is_like_one else "")


def _origin(index: Index, tensor: int, takes_logarithms: bool, wanted: Container[str] = _GIVES) -> int:
    """The call that gave probabilities (or logits, to what takes logarithms) that come to be a tensor as they are.

    Or a call of another function that is wanted.

    -1 where there is none.
    """
    for _ in range(_STEPS):
        op = index.made_by(tensor)
        if not 0 <= op < index.op_count:
            return -1
        name = _last(index, op)
        if name in wanted or (takes_logarithms and name in LAYERS):
            return op
        taken = index.uses.of(op)
        if name not in _AS_IT_IS or not len(taken):
            return -1
        tensor = taken[0]
    return -1


def _last(index: Index, op: int) -> str:
    return index.func(op).rpartition(".")[2]


def _comes_with_others(index: Index, op: int) -> bool:
    spans = index.recording.ops.column("span")
    return any(0 <= one < index.op_count and spans[one] == spans[op] for one in (op - 1, op + 1))

"""Log-probabilities of samples that keep their way back to the distribution: by its mean the two ways cancel.

``log_prob(x)`` has ``x - mean`` in it, and a sample that was drawn with a graph is ``mean + std * noise``: whatever the
mean is, the difference stays the same. So what is behind the mean gets exactly zero, where no other way leads to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.value_looks import PassLook, is_zero
from gradscope.analysis.index import Index
from gradscope.recording import NONE

_LOG_PROB = re.compile(r"distributions\.\w+\.log_prob")
_RSAMPLE = re.compile(r"distributions\.\w+\.rsample")
_SUMS = frozenset(("Tensor.add", "torch.add", "Tensor.__add__", "Tensor.__radd__", "torch.addcmul", "Tensor.addcmul"))
_FORMS = frozenset(
    (
        "unsqueeze",
        "squeeze",
        "view",
        "reshape",
        "clone",
        "contiguous",
        "to",
        "float",
        "double",
        "__getitem__",
        "flatten",
    )
)
_FORMED = 4
"""Calls that give a sample another form, one after the other."""


class CancelledSample(NamedTuple):
    """A sample whose log-probability has no gradient by what it was drawn around."""

    drawn: int
    """The op that drew it."""
    scored: int
    """The op that took its log-probability."""
    leaves: list[int]
    looks: list[PassLook]
    """All passes in which the gradients of these leaves were looked at: all were zero."""


def cancelled_samples(index: Index, passes: Passes, looks: list[PassLook]) -> Iterator[CancelledSample]:
    """One for each line that draws."""
    scores = {op: sample for op in index.calls_of(_LOG_PROB.fullmatch) if (sample := _drawn(index, op)) is not None}
    if not scores:
        return
    by_line: dict[int, CancelledSample] = {}
    for leaf, own in _always_zero(looks).items():
        ways = [_only_ways(index, passes, look, leaf, scores) for look in own]
        if all(ways):
            scored = max(ways[-1])
            drawn, _ = scores[scored]
            known = by_line.get(index.op_statement[drawn])
            if known is None:
                by_line[index.op_statement[drawn]] = CancelledSample(drawn, scored, [leaf], own)
            else:
                known.leaves.append(leaf)
    yield from by_line.values()


def _always_zero(looks: list[PassLook]) -> dict[int, list[PassLook]]:
    """The leaves whose gradient was zero whenever it was looked at, with these passes."""
    found: dict[int, list[PassLook]] = {}
    for look in looks:
        for leaf in look.gradients:
            found.setdefault(leaf, []).append(look)
    return {leaf: own for leaf, own in found.items() if all(is_zero(look.gradients[leaf]) for look in own)}


def _drawn(index: Index, scored: int) -> tuple[int, int] | None:
    """The op that drew what a log-probability is of, with a graph, and that value; None where none is known.

    The value is what is taken first where torch validates it, as it does unless it is told not to; what ``rsample``
    drew is known wherever it stands.
    """
    taken = list(index.uses.of(scored))
    behind = {value: _before_forms(index, scored, value) for value in taken}
    for value, op in behind.items():
        if op >= 0 and (_RSAMPLE.fullmatch(index.func(op)) or (value == taken[0] and index.func(op) in _SUMS)):
            return op, value
    return None


def _before_forms(index: Index, scored: int, value: int) -> int:
    """The op that made a value, before it was given other forms; NONE where it has no graph."""
    for _ in range(_FORMED):
        if value < 0 or not index.requires_grad(value, scored):
            return NONE
        op = index.made_by(value)
        if op < 0 or index.func(op).rpartition(".")[2] not in _FORMS:
            return op
        value = next(iter(index.uses.of(op)), NONE)
    return NONE


def _only_ways(index: Index, passes: Passes, look: PassLook, leaf: int, scores: dict[int, tuple[int, int]]) -> set[int]:
    """The log-probabilities through which every way of a pass to a leaf leads; none where another way does.

    Of each the sample and the distribution are to lead to the leaf, both.
    """
    made_by, variable = (index.recording.nodes.column(name) for name in ("op", "variable"))
    nodes = index.recording.tensors.column("node")
    todo, seen, found = list(index.root_nodes(look.op)), set[int](), set[int]()
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        if variable[node] == leaf:
            return set()
        if made_by[node] in scores:
            found.add(made_by[node])
        else:
            todo += [after for after in index.edges.of(node) if after >= 0]
    for scored in found:
        leads = {one: one == leaf or leaf in passes.leaves_behind(nodes[one]) for one in index.uses.of(scored)}
        if not leads.pop(scores[scored][1]) or not any(leads.values()):
            return set()
    return found

"""Terms of two passes that pull one judgment apart: ``bce(d(fake), ones)`` and ``bce(d(fake), zeros)``.

Two losses that train the same weights may be meant to; two that want opposite things of what a network says of one
sample are not meant to be applied in one step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.losses.factors import AS_IT_IS, called, maker
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE

_SUMS = frozenset(("AddBackward0", "SubBackward0", "StackBackward0"))
_KEEPS_SIGN = frozenset(("DivBackward0", "MeanBackward0", "MeanBackward1", "SumBackward0", "SumBackward1"))
_RISES = frozenset(
    """
    LogBackward0 SigmoidBackward0 LogSigmoidBackward0 SoftplusBackward0 ReluBackward0 ExpBackward0 TanhBackward0
    SqueezeBackward0 SqueezeBackward1 ViewBackward0 ReshapeAliasBackward0
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Nodes of functions that rise with what they take."""
_FALLS = frozenset(("NegBackward0", "RsubBackward1"))
_LOSSES = frozenset(("binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "cross_entropy"))
_CONSTANTS = frozenset(("ones", "ones_like", "new_ones", "zeros", "zeros_like", "new_zeros"))
_CONSTANTS |= {"full", "full_like", "new_full", "tensor", "scalar_tensor"}
_SCALES = AS_IT_IS | {"mul", "sub", "add", "div", "fill", "requires_grad"}
_CALLS = 400
"""Calls before a judgment that are looked at for what was judged."""


class SignedTerm(NamedTuple):
    """A term of what a pass began with."""

    top: int
    """Its first node below the sum that it is a term of."""
    stop: int
    """The node of the judgment: of what rising and falling functions and a mean were taken of."""
    sign: int
    """Whether the pass makes the judgment smaller (1) or larger (-1); 0: not known."""
    leaves: frozenset[int]


class ContraryTerms:
    """Compares the terms of passes."""

    def __init__(self, index: Index, passes: Passes) -> None:
        self._index = index
        self._passes = passes

    def of_pass(self, op: int) -> list[SignedTerm]:
        """The terms of what a pass began with."""
        return list(self._terms(op))

    def want_contrary(self, one: SignedTerm, other: SignedTerm) -> bool:
        """Whether two terms want opposite things of what they judge."""
        index, made_at = self._index, self._index.recording.nodes.column("op")
        ops = (made_at[one.stop], made_at[other.stop])
        if max(ops) >= index.op_count or called(index, ops[0]) != called(index, ops[1]):
            return False
        return self._have_contrary_targets(*ops) if self._is_loss(ops[0]) else one.sign * other.sign == -1

    def are_of_one(self, one: SignedTerm, other: SignedTerm, judge: frozenset[int]) -> bool:
        """Whether two terms are of what a judge says of one sample."""
        judged = (self.judged(one), self.judged(other))
        if min(judged) < 0:
            return False
        return judged[0] == judged[1] or bool(self.samples(one, judge) & self.samples(other, judge))

    def samples(self, term: SignedTerm, judge: frozenset[int]) -> frozenset[int]:
        """What was computed from other parameters than a judge's, and what is judged was computed from."""
        judged = self.judged(term)
        index, nodes = self._index, self._index.recording.tensors.column("node")
        stack, seen, found = [judged] * (judged >= 0), {judged}, set[int]()
        while stack and len(seen) < _CALLS:
            tensor = stack.pop()
            leaves = self._passes.leaves_behind(nodes[tensor]) if nodes[tensor] >= 0 else set[int]()
            if leaves and leaves.isdisjoint(judge) and tensor not in leaves:
                found.add(tensor)
                continue
            op = maker(index, tensor)
            new = [one for one in index.uses.of(op) if one not in seen] if op >= 0 else []
            seen.update(new)
            stack += new
        return frozenset(found)

    def judged(self, term: SignedTerm) -> int:
        """The tensor that a term is a loss of."""
        op = self._index.recording.nodes.column("op")[term.stop]
        if op < self._index.op_count and self._is_loss(op):
            return next(iter(self._index.uses.of(op)), NONE)
        return self._index.node_tensor[term.stop]

    def _is_loss(self, op: int) -> bool:
        return called(self._index, op) in _LOSSES

    def _have_contrary_targets(self, one: int, other: int) -> bool:
        """Whether two losses take different constants as their targets."""
        targets = [list(self._index.uses.of(op))[1:2] for op in (one, other)]
        if not targets[0] or not targets[1] or targets[0] == targets[1]:
            return False
        kinds = [self._kind(target) for (target,) in targets]
        return "" not in kinds and (kinds[0] != kinds[1] or kinds[0] == "full")

    def _kind(self, tensor: int) -> str:
        """``ones``, ``zeros`` or ``full`` for a tensor that is a constant, whatever it was scaled by; else empty."""
        for _ in range(_CALLS):
            op = maker(self._index, tensor)
            name = called(self._index, op) if op >= 0 else ""
            if name in _CONSTANTS:
                plain = name.removeprefix("new_").removesuffix("_like")
                return plain if plain in ("ones", "zeros") else "full"
            taken = list(self._index.uses.of(op)) if name in _SCALES else []
            if len(taken) != 1:
                return ""
            (tensor,) = taken
        return ""

    def _terms(self, op: int) -> Iterator[SignedTerm]:
        starts, following = self._passes.edge_starts, self._index.edges.values
        names, text = self._index.recording.nodes.column("name"), self._index.recording.text
        stack = [(root, root, 1) for root in self._index.root_nodes(op)]
        seen = set[int]()
        while stack:
            node, top, sign = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            name, edges = text(names[node]), following[starts[node] : starts[node + 1]]
            after = [(place, one) for place, one in enumerate(edges) if one >= 0]
            falls = -1 if name in _FALLS else 1
            if name in _SUMS and after:
                for place, one in after:
                    turned = -sign if name == "SubBackward0" and place == 1 else sign
                    stack.append((one, top if len(after) == 1 else one, turned))
            elif name in _KEEPS_SIGN | _RISES | _FALLS and len(after) == 1:
                stack.append((after[0][1], top, sign * falls))
            elif name == "MulBackward0" and len(after) == 1:
                stack.append((after[0][1], top, 0))
            else:
                yield SignedTerm(top, node, sign, frozenset(self._passes.leaves_behind(top)))

"""The ways from what a pass began with to a network's answers: whether they are taken as they are, or compared.

``-q(x, pi(x)).mean()`` takes what ``q`` gives as it is, and has no end; ``(q(x, a) - y).pow(2).mean()`` compares it.
"""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.leaf_gradients.pass_order import PassOrder
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index

_LINEAR = frozenset(
    """
    AddBackward SubBackward DivBackward MeanBackward SumBackward StackBackward CatBackward ViewBackward
    UnsafeViewBackward ReshapeAliasBackward SqueezeBackward UnsqueezeBackward SelectBackward SliceBackward
    IndexBackward GatherBackward UnbindBackward SplitBackward ExpandBackward PermuteBackward TransposeBackward
    TBackward CloneBackward ToCopyBackward AliasBackward MinimumBackward MaximumBackward MinBackward MaxBackward
    AminBackward AmaxBackward
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Nodes of functions that hand on as much more as they are given, or choose among what they are given."""
_TURNS = frozenset(("NegBackward", "RsubBackward"))
_COMPARES = frozenset(
    """
    MseLossBackward SmoothL1LossBackward HuberLossBackward L1LossBackward PowBackward AbsBackward
    BinaryCrossEntropyWithLogitsBackward
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Nodes of functions that are least where what they are given is near a target."""


class SignsOfWays(NamedTuple):
    """The ways of one pass to a network."""

    taken: frozenset[int]
    """The parameters of the last layers whose results are taken as they are."""
    compared: frozenset[int]
    """The same of those whose results are compared."""
    is_plain: bool
    """There are no other ways, and what is taken as it is pulls one way throughout."""


class LinearWays:
    """Follows them in one recording."""

    def __init__(self, index: Index, passes: Passes) -> None:
        self._index = index
        self._passes = passes

    def of_pass(self, op: int, network: frozenset[int]) -> SignsOfWays:
        """The ways of a pass to the parameters of a network."""
        index, order = self._index, PassOrder(self._index, self._passes, op)
        layers = order.users(network)
        names, text = index.recording.nodes.column("name"), index.recording.text
        stack = [(root, 1, False) for root in index.root_nodes(op)]
        seen, signs, is_plain = set[tuple[int, int, bool]](), set[int](), True
        heads: dict[bool, set[int]] = {False: set(), True: set()}
        while stack:
            node, sign, is_compared = stack.pop()
            if (node, sign, is_compared) in seen or self._passes.leaves_behind(node).isdisjoint(network):
                continue
            seen.add((node, sign, is_compared))
            if node in layers:
                heads[is_compared] |= self._own_parameters(node, network)
                if not is_compared:
                    signs.add(sign)
                continue
            name = text(names[node]).rstrip("0123456789")
            after = [one for one in index.edges.of(node) if one >= 0]
            if name == "MulBackward":
                is_square = len(after) == 2 and after[0] == after[1]
                is_plain &= is_compared or is_square or (len(after) == 1 and self._is_by_number(node))
                is_compared |= is_square
                after = after[:1] if is_square or len(after) == 1 else []
            elif name in _COMPARES:
                is_compared = True
            elif name not in _LINEAR and name not in _TURNS:
                is_plain &= is_compared
                continue
            turned = -sign if name in _TURNS else sign
            is_difference = name == "SubBackward"
            stack += [
                (one, -turned if is_difference and place == 1 else turned, is_compared)
                for place, one in enumerate(index.edges.of(node))
                if one in after
            ]
        taken, compared = frozenset(heads[False]), frozenset(heads[True])
        return SignsOfWays(taken, compared, is_plain and len(signs) == 1)

    def _is_by_number(self, node: int) -> bool:
        """Whether what a product took apart from one tracked tensor are single numbers."""
        index = self._index
        op = index.recording.nodes.column("op")[node]
        if op >= index.op_count:
            return False
        others = [one for one in index.uses.of(op) if not index.requires_grad(one, op)]
        return all(index.has_one_element(one) for one in others)

    def _own_parameters(self, node: int, network: frozenset[int]) -> set[int]:
        """The parameters of a layer: behind its node without a call of several tensors between."""
        variable, edges = self._index.recording.nodes.column("variable"), self._index.edges
        found, stack = set[int](), [one for one in edges.of(node) if one >= 0]
        while stack:
            one = stack.pop()
            after = [further for further in edges.of(one) if further >= 0]
            if variable[one] in network:
                found.add(variable[one])
            elif len(after) == 1 and one not in found:
                stack += after
        return found

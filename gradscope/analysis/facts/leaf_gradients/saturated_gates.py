"""Weights whose gradients are next to nothing, since every way to them leads through a gate that is shut or wide open.

Where the output of a sigmoid, tanh or softmax is at its limit for all that goes in, its derivative is next to nothing;
where a sigmoid's is next to zero, so is what a product with it gives the other factor. That the gradient was not small
before is known where the product that uses the output gave another factor's weights a gradient of the usual size.
"""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.value_looks import PassLook
from gradscope.analysis.index import Index
from gradscope.recording.flags import PARAMETER

LOOKS = 3
"""Passes that are looked at, with a step between, in which it was so, from which on it is told."""
_NOTHING = 1e-6
"""The part of the largest gradient of a parameter below which another one is next to nothing."""
_USUAL = 1e-3
_NEARLY_ALL = 0.75
"""The part of the passes: a softmax of large values is at its limit in most of them, and not in all."""
_GATES = {
    "SigmoidBackward0": "sigmoid",
    "TanhBackward0": "tanh",
    "SoftmaxBackward0": "softmax",
}
_PRODUCTS = frozenset(
    f"{name}Backward0" for name in ("Mul", "Addmm", "Mm", "Bmm", "Baddbmm", "Addbmm", "Linear", "Convolution", "Mv")
)
_AT_LEAST = 2
_UP, _DOWN = 8, 6
"""Nodes between a gate and the product that uses it, and between that and the weights of its other factor."""


class SaturatedGates(NamedTuple):
    """What was seen of it in the last pass that was looked at."""

    op: int
    """The pass."""
    weights: list[int]
    """Those that get next to nothing, the smallest first."""
    largest: int
    sizes: tuple[float, float]
    """The norms of the gradients of the last of the weights, and of the largest."""
    gates: list[int]
    """The calls of the functions that every way to them leads through, next to the loss."""
    functions: list[str]
    looks: list[PassLook]
    looked_at: int
    """All passes that were looked at: in the others it was not so."""


def saturated_gates(index: Index, passes: Passes, looks: list[PassLook], steps: list[int]) -> SaturatedGates | None:
    """Weights of one model behind gates, in nearly all passes that were looked at."""
    looks = [look for look in looks if look.norms]
    parts = [_parts(index, look) for look in looks]
    if len(looks) < LOOKS or not all(parts):
        return None
    lasting = [number for number, of in enumerate(parts) if sum(part < _NOTHING for part in of.values()) >= _AT_LEAST]
    if len(lasting) < max(LOOKS, _NEARLY_ALL * len(looks)):
        return None
    first, last = (looks[number] for number in (lasting[0], lasting[-1]))
    graph, of_last = _Graph(index, passes, last), parts[lasting[-1]]
    weights = {leaf for leaf in of_last if leaf in graph.reached and leaf not in graph.without_gates}
    lasting = [number for number in lasting if all(parts[number].get(leaf, 1.0) < _NOTHING for leaf in weights)]
    is_exact = not any(one.get(leaf) for one in parts for leaf in weights)  # (see gradient-always-zero)
    is_lasting = len(lasting) >= max(LOOKS, _NEARLY_ALL * len(looks))
    if len(weights) < _AT_LEAST or is_exact or not is_lasting or not any(first.op < one < last.op for one in steps):
        return None
    if not all(graph.has_usual_factor(gate, of_last) for gate in graph.frontier):
        return None
    in_order = sorted(weights, key=last.norms.__getitem__)
    largest = max(of_last, key=last.norms.__getitem__)
    sizes = last.norms[in_order[-1]], last.norms[largest]
    made_by = index.recording.nodes.column("op")
    names = list(dict.fromkeys(graph.gate_name(gate) for gate in sorted(graph.frontier)))
    gates = sorted({made_by[gate] for gate in graph.frontier})
    found = [looks[number] for number in lasting]
    return SaturatedGates(last.op, in_order, largest, sizes, gates, names, found, len(looks))


def _parts(index: Index, look: PassLook) -> dict[int, float]:
    """The norms of the gradients of parameters, as parts of the largest."""
    flags = index.recording.tensors.column("flags")
    norms = {leaf: norm for leaf, norm in look.norms.items() if flags[leaf] & PARAMETER and norm < float("inf")}
    most = max(norms.values(), default=0.0)
    return {leaf: norm / most for leaf, norm in norms.items()} if most else {}


class _Graph:
    """The graph of one pass."""

    def __init__(self, index: Index, passes: Passes, look: PassLook) -> None:
        nodes = index.recording.nodes
        self._index = index
        self._names, self._variables = nodes.column("name"), nodes.column("variable")
        self._parents: dict[int, list[int]] = {}
        roots = index.root_nodes(look.op)
        for node in {one for root in roots for one in (root, *passes.behind(root))}:
            for after in self._following(node):
                self._parents.setdefault(after, []).append(node)
        self._shut = self._multiplied()
        self.frontier = set[int]()
        self.without_gates = self._leaves(roots, through_gates=False)
        self.reached = self._leaves(roots, through_gates=True)

    def gate_name(self, node: int) -> str:
        """The function of a gate's node; empty for other nodes."""
        return _GATES.get(self._index.recording.text(self._names[node]), "")

    def has_usual_factor(self, gate: int, parts: dict[int, float]) -> bool:
        """Whether a product that uses what a gate gave has another factor whose weights got a gradient as usual."""
        todo, seen = [(gate, 0)], {gate}
        while todo:
            node, far = todo.pop(0)
            for parent in self._parents.get(node, ()):
                if self._is_product(parent) and any(
                    parts.get(leaf, 0.0) >= _USUAL
                    for other in self._following(parent)
                    if other != node
                    for leaf in self._near(other)
                ):
                    return True
                if parent not in seen and far < _UP and not self.gate_name(parent):
                    seen.add(parent)
                    todo.append((parent, far + 1))
        return False

    def _near(self, node: int) -> set[int]:
        """The leaves that few nodes lie before, without a gate among them."""
        found, level = set[int](), [node]
        for _ in range(_DOWN):
            found |= {self._variables[one] for one in level if self._variables[one] >= 0}
            level = [after for one in level if not self.gate_name(one) for after in self._following(one)]
        return found

    def _multiplied(self) -> dict[int, int]:
        """Products whose one factor is what a sigmoid gave: the gate, by the node of the product."""
        return {
            node: gate
            for gate, parents in self._parents.items()
            if self.gate_name(gate) == "sigmoid"
            for node in parents
            if self._index.recording.text(self._names[node]) == "MulBackward0"
        }

    def _leaves(self, roots: list[int], through_gates: bool) -> set[int]:
        todo, seen, found = list(roots), set(roots), set[int]()
        while todo:
            node = todo.pop()
            if self._variables[node] >= 0:
                found.add(self._variables[node])
            gate = node if self.gate_name(node) else self._shut.get(node, -1)
            if gate >= 0 and not through_gates:
                self.frontier.add(gate)
                continue
            new = [after for after in self._following(node) if after not in seen]
            seen.update(new)
            todo += new
        return found

    def _is_product(self, node: int) -> bool:
        return self._index.recording.text(self._names[node]) in _PRODUCTS

    def _following(self, node: int) -> list[int]:
        return [after for after in self._index.edges.of(node) if after >= 0]

"""Leaves that hold zeros and get zeros as their gradient, since each one's gradient has another of them as a factor."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.value_looks import PassLook, is_zero
from gradscope.analysis.facts.writes import all_writes, is_step, writes_by_program
from gradscope.analysis.index import Index

LOOKS = 3
"""Passes in which it must have been so, with a step among them."""

_KEEP_ZERO = frozenset(
    """
    relu tanh sin abs neg view reshape transpose t permute expand expand_as view_as __getitem__ squeeze unsqueeze
    flatten contiguous clone float double half to type gelu silu elu leaky_relu dropout mean sum square hardtanh
    softsign repeat repeat_interleave mT T H chunk split unbind selu tan sqrt type_as movedim
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Functions of one tensor that give zeros for zeros."""

_PRODUCTS = frozenset(("mul", "__mul__", "__rmul__", "multiply", "matmul", "__matmul__", "mm", "bmm", "mv", "einsum"))
_WITH_BIAS = frozenset(("linear", "conv1d", "conv2d", "conv3d"))
_SUMS = frozenset(("add", "sub", "__add__", "__sub__", "__radd__", "cat", "stack", "concat"))
_SCALINGS = frozenset(("mul", "__mul__", "__rmul__", "multiply", "div", "__truediv__", "divide"))
_FLAT_AT_ZERO = frozenset(("relu", "square"))
"""Functions whose derivative is 0 where they are given 0."""

_FOLLOWED = 100_000
"""Tensors behind a loss that are followed."""


class ZeroFactors(NamedTuple):
    """Leaves of one model that keep one another at zero."""

    leaves: list[int]
    factors: list[int]
    """Leaves that hold zeros and are factors of the gradients of those: most of them are the same."""
    written: list[int]
    """The ops that gave each leaf its zeros; NONE where it is not known."""
    passes: list[PassLook]


def zero_factors(index: Index, looks: list[PassLook]) -> ZeroFactors | None:
    """The leaves of a run to which no way leads but through products with zeros that are such leaves."""
    looked: dict[int, list[PassLook]] = {}
    for look in looks:
        for leaf in look.gradients:
            looked.setdefault(leaf, []).append(look)
    zeros = {
        leaf: passes
        for leaf, passes in looked.items()
        if len(passes) >= LOOKS and all(is_zero(look.gradients[leaf]) and leaf in look.zeros for look in passes)
    }
    if not zeros:
        return None
    steps = sorted({op for op, *_ in writes_by_program(index) if is_step(index, op)})
    passes = max(zeros.values(), key=len)
    if not any(passes[0].op < step < passes[-1].op for step in steps):
        return None
    walk = _Walk(index, frozenset(zeros), passes[-1].op)
    found = [leaf for leaf in zeros if leaf in walk.blocked and leaf not in walk.reached]
    if not found:
        return None
    factors = sorted({factor for leaf in found for factor in walk.blocked[leaf]})
    written = [given_values_at(index, leaf, passes[0].op) for leaf in dict.fromkeys([*found, *factors])]
    return ZeroFactors(found, factors, written, passes)


def given_values_at(index: Index, leaf: int, before: int) -> int:
    """The last call that wrote a leaf before an op, by whatever tensor on its memory, or else that made it."""
    storage, made = index.storage_at(leaf, before), index.made_by(leaf)
    written = [
        op for op, tensor, *_ in all_writes(index) if made < op < before and index.storage_at(tensor, op) == storage
    ]
    if made < 0 and storage >= 0:
        made = index.recording.storages.column("op")[storage]  # nn.Parameter(zeros): of what a call before it made
    met = index.recording.tensors.column("op")[leaf]
    if met < before and index.func(met).endswith("_") and leaf in index.uses.of(met):
        written.append(met)  # what it was before its first call, which writes it, nobody saw: that is no row of a write
    return max([made, *written])


class _Walk:
    """The ways from the root of a pass to leaves, over the calls that were seen."""

    def __init__(self, index: Index, leaves: frozenset[int], look: int) -> None:
        self._index = index
        self._leaves = leaves
        self._known: dict[int, frozenset[int]] = {}
        self.reached: set[int] = set()
        """Leaves to which a way leads that no zero is known to block."""
        self.blocked: dict[int, set[int]] = {}
        """For each leaf behind a product with zeros: the leaves that those zeros come from."""
        cut: list[tuple[int, frozenset[int]]] = []
        self._follow(index.roots.get(look, []), look, cut)
        for tensor, sources in cut:
            for behind in self._behind(tensor):
                self.blocked.setdefault(behind, set()).update(sources)

    def _follow(self, roots: list[int], before: int, cut: list[tuple[int, frozenset[int]]]) -> None:
        todo, seen = list(roots), set(roots)
        while todo and len(seen) < _FOLLOWED:
            tensor = todo.pop()
            if self._index.is_leaf_with_grad(tensor, before):
                self.reached.add(tensor)
                continue
            op = self._index.made_by(tensor)
            for taken in self._tracked(op):
                sources = self._zero_beside(op, taken)
                if sources:
                    cut.append((taken, sources))
                elif taken not in seen:
                    seen.add(taken)
                    todo.append(taken)

    def _behind(self, tensor: int) -> set[int]:
        todo, seen = [tensor], {tensor}
        while todo and len(seen) < _FOLLOWED:
            for taken in self._tracked(self._index.made_by(todo.pop())):
                if taken not in seen:
                    seen.add(taken)
                    todo.append(taken)
        return seen & self._leaves

    def _tracked(self, op: int) -> list[int]:
        if not 0 <= op < self._index.op_count:
            return []
        made_at = self._index.recording.tensors.column("op")
        return [one for one in self._index.uses.of(op) if made_at[one] <= op and self._index.requires_grad(one, op)]

    def _zero_beside(self, op: int, taken: int) -> frozenset[int]:
        """The leaves that make the derivative of a call with respect to one of its inputs zero; empty where none do."""
        name, inputs = self._name(op), list(self._index.uses.of(op))
        if name in _FLAT_AT_ZERO and len(inputs) == 1:
            return self._zeros(taken)
        others: list[int] = []
        if name in _PRODUCTS and len(inputs) > 1:
            others = [one for one in inputs if one != taken]
        elif name in _WITH_BIAS and len(inputs) > 1 and taken in inputs[:2]:
            others = [one for one in inputs[:2] if one != taken]
        return next((found for found in map(self._zeros, others) if found), frozenset())

    def _zeros(self, tensor: int) -> frozenset[int]:
        """The leaves that make a tensor zero, as far as the calls tell; empty where it need not be."""
        if tensor in self._leaves:
            return frozenset((tensor,))
        known = self._known.get(tensor)
        if known is None:
            self._known[tensor] = frozenset()  # (where the way is a circle nothing follows)
            known = self._known[tensor] = self._zeros_made(self._index.made_by(tensor))
        return known

    def _zeros_made(self, op: int) -> frozenset[int]:
        if not 0 <= op < self._index.op_count or len(self._known) > _FOLLOWED:
            return frozenset()
        name, inputs = self._name(op), list(self._index.uses.of(op))
        if not inputs:
            return frozenset()
        if name in _KEEP_ZERO or (name in _SCALINGS and len(inputs) == 1):
            return self._zeros(inputs[0])
        if name in _PRODUCTS and len(inputs) > 1:
            return next((found for found in map(self._zeros, inputs) if found), frozenset())
        if name in _WITH_BIAS and len(inputs) > 1:
            product = next((found for found in map(self._zeros, inputs[:2]) if found), frozenset())
            return self._all([product, *map(self._zeros, inputs[2:])])
        if name in _SUMS and len(inputs) > 1:
            return self._all(list(map(self._zeros, inputs)))
        return frozenset()

    def _all(self, parts: list[frozenset[int]]) -> frozenset[int]:
        return frozenset().union(*parts) if all(parts) else frozenset()

    def _name(self, op: int) -> str:
        return self._index.call_name(op).rpartition(".")[2]

"""Samples drawn without a graph from what is being trained, whose values go into the loss all the same.

What is behind the distribution gets a gradient by another way (an entropy, a divergence), so that nothing is None.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.flow import Flow
from gradscope.analysis.facts.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import OpKind

_DRAWS = frozenset(("torch.normal", "torch.bernoulli", "Tensor.bernoulli", "torch.poisson"))
"""Functions that draw by what they are given; they have a node, whose derivative is zero."""
_OF_PROBABILITY = frozenset(("log_prob", "entropy", "kl_divergence", "cdf", "icdf", "enumerate_support", "perplexity"))
"""Methods of a distribution that have a derivative by its parameters, whatever is done with the sample."""
_PRODUCTS = frozenset(("mul", "div", "matmul", "dot", "einsum", "true_divide", "bmm", "mm", "mv"))
_VIEWS = frozenset(("t", "T", "mT", "transpose", "view", "reshape", "permute", "__getitem__"))
_FOLLOWED = 4_000
"""Tensors that are followed from one sample."""


class SampleInLoss(NamedTuple):
    """One line that draws."""

    op: int
    sample: int
    leaves: list[int]
    """Those behind the distribution to which the pass gave gradients by other ways."""
    backward: int


def samples_in_losses(index: Index, flow: Flow, passes: Passes) -> Iterator[SampleInLoss]:
    """The last sample of each line that a backward pass of a line took into account."""
    texts, funcs = index.recording.text, index.recording.ops.column("func")
    drawing = {func for func in set(funcs) if _draws(texts(func))}
    last = {index.op_statement[op]: op for op, func in enumerate(funcs) if func in drawing}
    if not last:
        return
    kinds, flags = (index.recording.ops.column(name) for name in ("kind", "flags"))
    later: dict[int, int] = {}
    for op in index.roots:
        if kinds[op] == OpKind.BACKWARD and not flags[op] & RAISED:
            later[index.op_statement[op]] = op
    for op in sorted(last.values()):
        for backward in (one for one in sorted(later.values()) if one > op):
            found = _Way(index, flow, passes, op, backward).found()
            if found is not None:
                yield found
                break


def _draws(function: str) -> bool:
    is_method = function.startswith("distributions.") and function.endswith(".sample")
    return is_method or function in _DRAWS


class _Way:
    """The ways from one sample to what one pass started from."""

    def __init__(self, index: Index, flow: Flow, passes: Passes, op: int, backward: int) -> None:
        self._index = index
        self._flow = flow
        self._op = op
        self._backward = backward
        rows = index.recording.backwards
        roots = [row.node for row in rows if row.op == backward and row.node >= 0]
        self._behind = {node for root in roots for node in passes.behind(root)}
        self._passes = passes

    def found(self) -> SampleInLoss | None:
        index = self._index
        nodes, variable = index.recording.tensors.column("node"), index.recording.nodes.column("variable")
        given = [one for one in index.uses.of(self._op) if index.requires_grad(one, self._op)]
        made = index.tensors_made(self._op)
        if not given or not made or not index.is_floating(made[-1]):
            return None
        sample = made[-1]
        behind = {variable[node] for one in given for node in self._passes.behind(nodes[one])} - {NONE}
        behind |= {one for one in given if index.is_leaf_with_grad(one, self._op)}
        reached = {variable[node] for node in self._behind} & behind
        if not reached or not self._is_taken_as_it_is(sample, set(given), behind):
            return None
        return SampleInLoss(self._op, sample, sorted(reached), self._backward)

    def _is_taken_as_it_is(self, sample: int, given: set[int], leaves: set[int]) -> bool:
        """Whether the sample's values go into the loss, and nothing shows that they are meant to have no gradient.

        Shown so: what the distribution is made of is put in beside the sample (a straight-through estimate, a
        probability written out, a model that is run on its own samples), or a probability of the sample is a factor
        of what depends on it (a score function).
        """
        index = self._index
        nodes = index.recording.tensors.column("node")
        taken, probabilities = {sample}, set[int]()
        stack, arrives = [sample], False
        while stack:
            tensor = stack.pop()
            if len(taken) + len(probabilities) > _FOLLOWED:
                return False
            for op in index.users.of(tensor):
                if not self._op < op < self._backward:
                    continue
                name = index.func(op).removesuffix(".__get__").rpartition(".")[2]
                uses = list(index.uses.of(op))
                is_probability = tensor in probabilities or name in _OF_PROBABILITY
                if not is_probability and any(self._of_model(one, given, leaves) for one in uses):
                    return False
                if name in _PRODUCTS and self._is_score(op, uses, sample, probabilities):
                    return False
                for made in index.tensors_made(op):
                    if not index.is_floating(made) or self._is_cut(op, made, uses):
                        continue
                    if not is_probability and nodes[made] in self._behind and nodes[made] >= 0:
                        arrives = True
                    known = probabilities if is_probability else taken
                    if made not in known:
                        known.add(made)
                        stack.append(made)
        return arrives

    def _of_model(self, tensor: int, given: set[int], leaves: set[int]) -> bool:
        """Whether a tensor is what the distribution was made of: its parameters, or a leaf behind them."""
        if tensor in given or tensor in leaves:
            return True
        made = self._index.made_by(tensor)
        name = self._index.func(made).removesuffix(".__get__").rpartition(".")[2] if made >= 0 else ""
        return name in _VIEWS and any(one in leaves for one in self._index.uses.of(made))

    def _is_score(self, op: int, uses: list[int], sample: int, probabilities: set[int]) -> bool:
        """Whether a product has the logarithm of a probability as one factor, and the other is no constant weight."""
        others = [one for one in uses if one not in probabilities]
        if len(others) == len(uses) or not others:
            return False
        index = self._index
        return any(
            index.recording.text(index.recording.layouts[index.recording.tensors.column("layout")[one]].shape) != "()"
            or sample in self._flow.origins(one, op)
            or index.made_by(one) < 0
            for one in others
        )

    def _is_cut(self, op: int, made: int, uses: list[int]) -> bool:
        """Whether a call let no gradient through, on purpose or not."""
        index = self._index
        name = index.func(op).removesuffix(".__get__").rpartition(".")[2]
        is_tracked = index.requires_grad(made, op + 1)
        return name in ("detach", "data") or (not is_tracked and any(index.requires_grad(one, op) for one in uses))

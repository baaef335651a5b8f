"""Samples drawn without a graph from what is being trained, whose values go into the loss all the same.

What is behind the distribution gets a gradient by another way (an entropy, a divergence), so that nothing is None.

Of whole numbers (an action, a token) it is their code or what they pick that goes on: ``one_hot(action).float()``,
``table[action]``. Those are drawn for many reasons, so they count only in a pass whose gradients serve nothing but
what the distribution was made of: a loss that trains a critic on them too is meant to have that term.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before, ops_between
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.reaching.straight_through import StraightThroughs
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import OpKind

_DRAWS = frozenset(
    ("torch.normal", "torch.bernoulli", "Tensor.bernoulli", "torch.poisson", "torch.multinomial", "Tensor.multinomial")
)
"""Functions that draw by what they are given; they have a node, whose derivative is zero."""
_OF_PROBABILITY = frozenset(("log_prob", "entropy", "kl_divergence", "cdf", "icdf", "enumerate_support", "perplexity"))
"""Methods of a distribution that have a derivative by its parameters, whatever is done with the sample."""
_PRODUCTS = frozenset(("mul", "div", "matmul", "dot", "einsum", "true_divide", "bmm", "mm", "mv"))
_VIEWS = frozenset(("t", "T", "mT", "transpose", "view", "reshape", "permute", "__getitem__"))
_CODES = frozenset(
    """
    one_hot float to type double half long int type_as unsqueeze squeeze view reshape expand expand_as repeat flatten
    permute transpose t T __getitem__ stack cat clone contiguous eq __eq__ scatter scatter_
    __setitem__
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Functions that give a drawn number another form, as long as they take nothing else that requires grad."""
_DRAWS_A_PASS = 32
"""Draws of one line that are looked at for one pass: a network has one in each of its layers."""
_FOLLOWED = 4_000
"""Tensors that are followed from one sample."""


class SampleInLoss(NamedTuple):
    """One line that draws."""

    op: int
    """The last draw before the pass."""
    sample: int
    leaves: list[int]
    """Those behind what the line drew from for this pass, to which it gave gradients by other ways."""
    backward: int


def samples_in_losses(index: Index, flow: Flow, passes: Passes, lives: GradientLives) -> Iterator[SampleInLoss]:
    """For each line that draws, the last sample before a backward pass of a line that took it into account."""
    texts, funcs = index.recording.text, index.recording.ops.column("func")
    drawing = {func for func in set(funcs) if _draws(texts(func))}
    drawn: dict[int, list[int]] = {}
    for op, func in enumerate(funcs):
        if func in drawing:
            drawn.setdefault(index.op_statement[op], []).append(op)
    if not drawn:
        return
    kinds, flags = (index.recording.ops.column(name) for name in ("kind", "flags"))
    later: dict[int, int] = {}
    for op in index.roots:
        if kinds[op] == OpKind.BACKWARD and not flags[op] & RAISED:
            later[index.op_statement[op]] = op
    for ops in sorted(drawn.values(), key=lambda ops: ops[-1]):
        for backward in sorted(later.values()):
            before = max((op for op in index.roots if op < backward), default=NONE)
            drawn_for_it = ops_between(ops, before, backward)[-_DRAWS_A_PASS:] or [last_before(ops, backward)]
            repeats = len(drawn_for_it) > 1
            ways = (_Way(index, flow, passes, lives, op, backward, repeats).found() for op in drawn_for_it if op >= 0)
            found = [way for way in ways if way is not None]
            if found:
                leaves = {leaf for way in found for leaf in way.leaves}
                yield found[-1]._replace(leaves=sorted(leaves))
                break


def draws_from_distribution(function: str) -> bool:
    """Whether a function, by its name, is the ``sample`` of one of torch's distributions."""
    return function.startswith("distributions.") and function.endswith(".sample")


def _draws(function: str) -> bool:
    return draws_from_distribution(function) or function in _DRAWS


class _Way:
    """The ways from one sample to what one pass started from."""

    def __init__(
        self, index: Index, flow: Flow, passes: Passes, lives: GradientLives, op: int, backward: int, repeats: bool
    ) -> None:
        self._index = index
        self._repeats = repeats
        """Its line draws several times for the pass: a state that is carried on may take each sample in."""
        self._lives = lives
        self._flow = flow
        self._op = op
        self._backward = backward
        self._behind = {node for root in index.root_nodes(backward) for node in passes.behind(root)}
        self._passes = passes
        self._leaves: dict[int, frozenset[int]] = {}
        self._estimates = StraightThroughs(index, flow)

    def found(self) -> SampleInLoss | None:
        index = self._index
        nodes, variable = index.recording.tensors.column("node"), index.recording.nodes.column("variable")
        given = [one for one in index.uses.of(self._op) if index.requires_grad(one, self._op)]
        made = index.tensors_made(self._op)
        if not given or not made:
            return None
        sample = made[-1]
        behind = self._passes.leaves_behind(*(nodes[one] for one in given))
        behind |= {one for one in given if index.is_leaf_with_grad(one, self._op)}
        reached = {variable[node] for node in self._behind} & behind
        if not reached:
            return None
        if index.is_floating(sample):
            is_meant = not self._is_taken_as_it_is(sample, set(given), behind)
        else:
            is_meant = not self._serves_only(behind) or not self._is_fed_on(sample, set(given), behind)
        if is_meant:
            return None
        return SampleInLoss(self._op, sample, sorted(reached), self._backward)

    def _is_taken_as_it_is(self, sample: int, given: set[int], leaves: set[int]) -> bool:
        """Whether the sample's values go into the loss, and nothing shows that they are meant to have no gradient.

        Shown so: what the distribution is made of is put in beside the sample (a straight-through estimate, a
        probability written out, a model that is run on its own samples), or a probability of the sample is a factor
        of what depends on it (a score function). Where a sample is drawn at each step, and the model goes on from it,
        what comes of that is left aside: the sample must go into the loss by another way as well.
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
                    if not self._repeats or any(one in given for one in uses):
                        return False
                    continue
                if name in _PRODUCTS and self._is_score(op, uses, sample, probabilities):
                    return False
                if tensor == sample and self._is_estimate(op, leaves):
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
        return arrives and (not self._repeats or self._comes_to_loss(sample, given | leaves))

    def _is_estimate(self, op: int, leaves: set[int]) -> bool:
        """Whether a call that takes a sample ends a straight-through estimate of what it was drawn from."""
        nodes = self._index.recording.tensors.column("node")
        takes = self._estimates.nothing_but_gradients(op)
        return not leaves.isdisjoint(takes) or any(
            not leaves.isdisjoint(self._leaves_behind(nodes[one])) for one in takes if nodes[one] >= 0
        )

    def _comes_to_loss(self, sample: int, own: set[int]) -> bool:
        """Whether what the pass starts from was computed from a sample other than by what it was drawn from itself."""
        index, roots = self._index, self._index.roots[self._backward]
        seen, stack = {sample}, [sample]
        while stack and len(seen) <= _FOLLOWED:
            for op in index.users.of(stack.pop()):
                uses = list(index.uses.of(op))
                if not self._op < op < self._backward or not own.isdisjoint(uses):
                    continue
                made = [one for one in index.tensors_made(op) if one not in seen and not self._is_cut(op, one, uses)]
                seen.update(made)
                stack += made
        return not seen.isdisjoint(roots)

    def _serves_only(self, leaves: set[int]) -> bool:
        """Whether no step applied what the pass gave to others than some leaves."""
        variable = self._index.recording.nodes.column("variable")
        for leaf in {variable[node] for node in self._behind} - leaves - {NONE}:
            step = first_after(self._lives.steps.get(leaf, []), self._backward)
            if step >= 0 and not self._backward < first_after(self._lives.cleared.get(leaf, []), self._backward) < step:
                return False
        return True

    def _is_fed_on(self, sample: int, given: set[int], leaves: set[int]) -> bool:
        """Whether the code of a drawn number, or what it picks, goes on into the loss, for its values alone.

        Not so where anything that the drawn number meets leads to what it was drawn from: its own probability (to be
        gathered, as a target of cross_entropy), a straight-through estimate, a state of the model that drew it. Nor
        where a probability of it, or a tensor that leads there, is a factor of what was computed from it.
        """
        index = self._index
        nodes = index.recording.tensors.column("node")
        codes, values, probabilities = {sample}, set[int](), set[int]()
        stack, arrives = [sample], False
        while stack:
            tensor = stack.pop()
            if len(codes) + len(values) + len(probabilities) > _FOLLOWED:
                return False
            for op in index.users.of(tensor):
                if not self._op < op < self._backward:
                    continue
                name = index.func(op).removesuffix(".__get__").rpartition(".")[2]
                uses = list(index.uses.of(op))
                is_probability = tensor in probabilities or name in _OF_PROBABILITY
                if not is_probability and self._meets_its_origin(name, uses, tensor in codes, given, leaves):
                    return False
                if name in _PRODUCTS and self._is_score(op, uses, sample, probabilities):
                    return False
                is_code = tensor in codes and name in _CODES and not any(index.requires_grad(one, op) for one in uses)
                known = probabilities if is_probability else codes if is_code else values
                written = uses[:1] if name == "__setitem__" else [*index.results.of(op)]
                for made in (*index.tensors_made(op), *written):
                    if self._is_cut(op, made, uses) or not (index.is_floating(made) or tensor in codes):
                        continue
                    arrives = arrives or (not is_probability and nodes[made] >= 0 and nodes[made] in self._behind)
                    if made not in known:
                        known.add(made)
                        stack.append(made)
        return arrives

    def _meets_its_origin(self, name: str, uses: list[int], is_code: bool, given: set[int], leaves: set[int]) -> bool:
        """Whether a call takes, beside what was made of a sample, what leads to the leaves that it was drawn from."""
        if any(self._of_model(one, given, leaves) for one in uses):
            return True
        nodes = self._index.recording.tensors.column("node")
        return (is_code or name in _PRODUCTS) and any(
            not leaves.isdisjoint(self._leaves_behind(nodes[one])) for one in uses if nodes[one] >= 0
        )

    def _leaves_behind(self, node: int) -> frozenset[int]:
        known = self._leaves.get(node)
        if known is None:
            variable = self._index.recording.nodes.column("variable")
            known = self._leaves[node] = frozenset(variable[one] for one in self._passes.behind(node))
        return known

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

"""Functions whose derivative is zero everywhere, and leaves to which every way leads through a derivative of zero.

The table was measured (torch 2.13.0, CPU): a test measures each row again, another one looks through all operators of
torch's own tests for what is not in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.backward_faults import zeroed
from gradscope.analysis.facts.derivatives.cancelled_terms import CancelledTerms
from gradscope.analysis.facts.derivatives.function_sources import FunctionSources, Lines, WrittenBackward
from gradscope.analysis.facts.derivatives.softmax_of_one import LENGTHS, NODES, NORM_NODES, is_of_one
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.value_looks import Derivative, PassLook, is_zero
from gradscope.analysis.facts.writes import is_step, writes_by_program
from gradscope.analysis.index import Index
from gradscope.recording import NONE

ZERO_EVERYWHERE = frozenset(("Round", "Floor", "Ceil", "Trunc", "Sign", "Bernoulli", "Poisson", "Normal"))
"""Names of their nodes without ``Backward0``. (``sgn`` and ``angle`` are not zero for complex numbers; ``fill_`` and
``zero_`` take nothing of what was there.)"""

LOOKS = 3
"""Passes in which a derivative must have been zero that is not zero everywhere."""

_ROUNDING = 1e-3
"""Beside the largest gradient, what rounding may leave of one that is zero."""

FACTORS = frozenset(("MulBackward0",))
"""Nodes that multiply with what may be zero."""

_DIVISIONS = frozenset(("DivBackward2", "DivBackward3"))
"""Nodes of ``div`` with a ``rounding_mode``, which may be None."""

_ROUNDED = re.compile(r"rounding_mode\s*=\s*['\"](floor|trunc)")

_SUMS = frozenset(("AddBackward0", "SubBackward0"))
"""Nodes of the sums in which a term may cancel."""

_NUMBER = re.compile(r"Backward\d+$")
"""A Function of the program's (``class Round``) has a node without a number."""


def has_no_derivative(node_name: str) -> bool:
    """Whether a node of this name gives zeros whatever it is given."""
    return function_of_node(node_name) in ZERO_EVERYWHERE


def function_of_node(node_name: str) -> str:
    """The name of a node's function: ``Sqrt`` for ``SqrtBackward0``; a Function of the program's has no number."""
    return _NUMBER.sub("", node_name)


def _are_next_to_zero(looks: list[PassLook], leaf: int) -> bool:
    """Whether the gradients of a leaf may be what rounding leaves of zero, beside the largest, and the loss, of these.

    One pass may have small gradients throughout; the rounding is that of the values, which do not shrink with them.
    """
    found = [values for look in looks for values in (*look.gradients.values(), *look.roots)]
    largest = max(max(abs(low), abs(high)) for low, high in found)
    return max(max(map(abs, look.gradients[leaf])) for look in looks) <= _ROUNDING * largest


class Blocked(NamedTuple):
    """Leaves whose gradient was zero in every pass that was looked at, with what it was lost in."""

    leaves: list[int]
    ops: list[int]
    """The calls whose derivative was zero, in the last of the passes: every way leads through one of them."""
    everywhere: bool
    """The derivative of each of them is zero everywhere."""
    of_one: bool
    """Each is a softmax, a norm or a division by a length over one value."""
    cancelled: dict[int, list[int]]
    """By the op of a sum, what it adds and takes away again; the other ops are on what is left of the way."""
    returned: dict[int, tuple[WrittenBackward, Lines]]
    """By the op of a custom Function, that its backward returns zeros: the lines."""
    gave_zeros: dict[int, WrittenBackward]
    """By the op of a custom Function that gave zeros for what was none: its backward."""
    by_argument: dict[int, frozenset[int]]
    """By the op whose derivative is zero for an argument: the places of the inputs by which it is; none for all."""
    passes: list[PassLook]


class ZeroGradients:
    """Finds leaves that get nothing but zeros, where it is known why."""

    def __init__(self, index: Index, passes: Passes, looks: list[PassLook], functions: FunctionSources) -> None:
        self._index = index
        self._passes = passes
        self._looks = looks
        self._known: dict[tuple[int, bool], dict[int, frozenset[int]]] = {}
        self._terms = CancelledTerms(index)
        self._cancelled: dict[int, list[int]] = {}
        self._functions = functions
        self._returned: dict[int, tuple[WrittenBackward, Lines]] = {}
        self._argued: dict[int, frozenset[int]] = {}

    def found(self) -> list[Blocked]:
        """The leaves, by what blocks the way to them."""
        looked_at: dict[int, list[PassLook]] = {}
        for look in self._looks:
            for leaf in look.gradients:
                looked_at.setdefault(leaf, []).append(look)
        groups: dict[tuple[int, ...], Blocked] = {}
        for leaf, looks in looked_at.items():
            is_exact = all(is_zero(look.gradients[leaf]) for look in looks)
            if not is_exact and not (self._rounding and _are_next_to_zero(looks, leaf)):
                continue
            everywhere, blocks = self._everywhere_first(looks, leaf)
            if not is_exact and not all(nodes <= self._of_one and nodes & self._rounding for nodes in blocks):
                continue
            if blocks and (everywhere or self._lasts(looks)):
                blocked = self._blocked(leaf, everywhere, blocks, looks)
                known = groups.setdefault(tuple(blocked.ops), blocked)
                if known is not blocked:
                    known.leaves.append(leaf)
        return list(groups.values())

    def in_last_look(self, leaf: int) -> Blocked | None:
        """What blocked the way to a leaf in the last pass in which its gradient was looked at and was zero."""
        look = next((one for one in reversed(self._looks) if leaf in one.gradients), None)
        if look is None or not is_zero(look.gradients[leaf]):
            return None
        everywhere, blocks = self._everywhere_first([look], leaf)
        return self._blocked(leaf, everywhere, blocks, [look]) if blocks else None

    def _blocked(self, leaf: int, everywhere: bool, blocks: list[frozenset[int]], looks: list[PassLook]) -> Blocked:
        ops = sorted({self._made_by[node] for node in blocks[-1]})
        of_one = all(node in self._of_one for nodes in blocks for node in nodes)
        cancelled = {op: self._cancelled[op] for op in ops if op in self._cancelled}
        returned = {op: self._returned[op] for op in ops if op in self._returned}
        argued = {op: self._argued[op] for op in ops if op in self._argued}
        custom = (node for node in sorted(blocks[-1]) if self._names[node] in self._index.custom_functions)
        written = {self._made_by[node]: self._functions.of_node(node) for node in custom}
        gave = {op: one for op, one in written.items() if one is not None and op not in returned}
        return Blocked([leaf], ops, everywhere, of_one, cancelled, returned, gave, argued, looks)

    def _everywhere_first(self, looks: list[PassLook], leaf: int) -> tuple[bool, list[frozenset[int]]]:
        """What blocks the way to a leaf in each pass; empty where nothing does in one of them.

        What is zero whatever goes in is the cause, if it is in all ways: others may be zero for what came out of it.
        """
        for everywhere in (True, False):
            blocks = [self._blocks(look, everywhere).get(leaf, frozenset()) for look in looks]
            if all(blocks):
                return everywhere, blocks
        return False, []

    def _lasts(self, looks: list[PassLook]) -> bool:
        """Whether it stayed so over enough passes, with a step among them."""
        return len(looks) >= LOOKS and any(looks[0].op < step < looks[-1].op for step in self._steps)

    def _blocks(self, look: PassLook, everywhere: bool) -> dict[int, frozenset[int]]:
        """For each leaf that a pass reaches through nodes alone whose derivative is zero: those nodes."""
        known = self._known.get((look.op, everywhere))
        if known is None:
            known = self._known[look.op, everywhere] = self._walk(look, everywhere)
        return known

    def ending(self, node: int) -> list[int]:
        """The calls in which every way from a node ends whose derivative is zero everywhere; none where one goes on."""
        if node < 0:
            return []
        blocking, reached = self._ways([node], set())
        ops = sorted({self._made_by[one] for one in blocking})
        goes_on = any(self._variable[one] >= 0 for one in reached) or any(op in self._returned for op in ops)
        return [] if goes_on else ops

    def is_by_argument(self, op: int) -> bool:
        """Whether a call was found to have a derivative of zero for an argument that it has."""
        return op in self._argued

    def _walk(self, look: PassLook, everywhere: bool) -> dict[int, frozenset[int]]:
        flat = set() if everywhere else {one.node for one in look.derivatives if self._is_flat(one)}
        blocking, reached = self._ways(self._index.root_nodes(look.op), flat)
        found: dict[int, set[int]] = {}
        for node, starts in blocking.items():
            for behind in {one for start in starts for one in self._passes.behind(start)}:
                leaf = self._variable[behind]
                if leaf >= 0 and behind not in reached:
                    found.setdefault(leaf, set()).add(node)
        return {leaf: frozenset(nodes) for leaf, nodes in found.items()}

    def _is_flat(self, one: Derivative) -> bool:
        """Whether a function gave zeros back; a factor of zero is asked for elsewhere, as it may be meant."""
        return is_zero(one.values) and self._index.recording.text(self._names[one.node]) not in FACTORS

    def _ways(self, roots: list[int], flat: set[int]) -> tuple[dict[int, list[int]], set[int]]:
        """The nodes at which ways from some roots end, with where those that end start, and the nodes reached else."""
        blocking: dict[int, list[int]] = {}
        reached: set[int] = set()
        todo = list(roots)
        while todo:
            node = todo.pop()
            if node in reached or node in blocking:
                continue
            if node in flat or self._is_certain(node):
                following = list(self._index.edges.of(node)) if self._names[node] in self._norms else []
                blocking[node] = [one for one in following[:2] if one >= 0] or [node]  # (its input and its weight)
                todo += [one for one in following[2:] if one >= 0]  # (its bias)
                continue
            reached.add(node)
            cancelling = self._by_argument_of(node) or self._cancels(node) or self._returns_zeros(node)
            if cancelling is None:
                todo += self._following(node)
            else:
                blocking[node], left = cancelling
                reached.discard(node)
                todo += left
        return blocking, reached

    def _by_argument_of(self, node: int) -> tuple[list[int], list[int]] | None:
        """The nodes that a call gives zeros for an argument that it has, and the others; None for other calls."""
        places = self._by_argument.get(node)
        if places is None:
            return None
        self._argued[self._made_by[node]] = places
        following = list(enumerate(self._index.edges.of(node)))
        lost = [one for place, one in following if one >= 0 and (place in places or not places)]
        return lost, [one for place, one in following if one >= 0 and one not in lost]

    @cached_property
    def _by_argument(self) -> dict[int, frozenset[int]]:
        """Nodes whose derivative is zero for an argument, with those of passes that were not looked at.

        One call gives them all the same argument, where it did so whenever it was looked at.
        """
        known = {node: places for look in self._looks for node, places in look.by_argument.items()}
        if not known:
            return known
        spans, looked_at = self._index.recording.ops.column("span"), {look.op for look in self._looks}
        calls = {(spans[self._made_by[node]], self._names[node]): places for node, places in known.items()}
        others, changing = dict[int, frozenset[int]](), set[tuple[int, int]]()
        for node, name in enumerate(self._names):
            op = self._made_by[node]
            call = (spans[op], name) if 0 <= op < self._index.op_count else None
            if call in calls and node not in known:
                others[node] = calls[call]
                if self._passes.first_walked_at[node] in looked_at:
                    changing.add(call)
        return known | {
            node: places
            for node, places in others.items()
            if (spans[self._made_by[node]], self._names[node]) not in changing
        }

    def _cancels(self, node: int) -> tuple[list[int], list[int]] | None:
        """The nodes of what cancels in a sum, and of what is left; None for other nodes and where it is not known."""
        if self._names[node] not in self._sums:
            return None
        cancelled = self._terms.of(self._made_by[node])
        if cancelled is None:
            return None
        lost, left = (self._nodes_of(tensors) for tensors in (cancelled.cancelled, cancelled.left))
        if lost is None or left is None:
            return None
        self._cancelled[cancelled.op] = cancelled.cancelled
        return lost, left

    def _returns_zeros(self, node: int) -> tuple[list[int], list[int]] | None:
        """The nodes that a custom Function gives zeros by its source, and the others; None where it gives none."""
        written = self._functions.of_node(node) if self._names[node] in self._index.custom_functions else None
        found = zeroed(written) if written is not None else None
        following = list(self._index.edges.of(node))
        if written is None or found is None or len(following) != found[2]:
            return None
        statement, places, _ = found
        self._returned[self._made_by[node]] = written, written.lines_of(statement)
        lost = [following[place] for place in places if following[place] >= 0]
        return lost, [one for place, one in enumerate(following) if one >= 0 and place not in places]

    def _nodes_of(self, tensors: list[int]) -> list[int] | None:
        """The nodes that tensors have in the graph; None where one is not known."""
        nodes = self._index.recording.tensors.column("node")
        found = [nodes[one] if nodes[one] >= 0 else self._accumulates.get(one, NONE) for one in tensors]
        return None if NONE in found else found

    def _following(self, node: int) -> Iterable[int]:
        return (after for after in self._index.edges.of(node) if after >= 0)

    def _is_certain(self, node: int) -> bool:
        return self._names[node] in self._certain or node in self._of_one or self._is_rounded(node)

    def _is_rounded(self, node: int) -> bool:
        """Whether it is a division's whose text says that the result is rounded."""
        if self._names[node] not in self._divisions:
            return False
        return _ROUNDED.search(self._index.span_source(self._made_by[node])) is not None

    @cached_property
    def _sums(self) -> frozenset[int]:
        return frozenset(name for name in set(self._names) if self._index.recording.text(name) in _SUMS)

    @cached_property
    def _divisions(self) -> frozenset[int]:
        return frozenset(name for name in set(self._names) if self._index.recording.text(name) in _DIVISIONS)

    @cached_property
    def _accumulates(self) -> dict[int, int]:
        """The node of each leaf."""
        return {leaf: node for node, leaf in enumerate(self._variable) if leaf >= 0}

    @cached_property
    def _of_one(self) -> frozenset[int]:
        text, func = self._index.recording.text, self._index.func
        lengths = frozenset(op for op in self._index.calls_of(LENGTHS.__contains__) if is_of_one(self._index, op))
        softmaxes = frozenset(name for name in set(self._names) if text(name) in NODES)
        if not softmaxes and not lengths:
            return frozenset()
        nodes = [node for node, name in enumerate(self._names) if name in softmaxes]
        ops = {op for op in {self._made_by[node] for node in nodes} if func(op) not in LENGTHS}
        known = {op for op in ops if is_of_one(self._index, op)}
        found = {node for node in nodes if self._made_by[node] in known}
        return frozenset(found | {node for node, op in enumerate(self._made_by) if op in lengths})

    @cached_property
    def _rounding(self) -> frozenset[int]:
        """Those of one that give what rounding leaves of zero."""
        lengths = frozenset(self._index.calls_of(LENGTHS.__contains__))
        return frozenset(
            node for node in self._of_one if self._names[node] in self._norms or self._made_by[node] in lengths
        )

    @cached_property
    def _norms(self) -> frozenset[int]:
        """The names of the nodes of norms."""
        return frozenset(name for name in set(self._names) if self._index.recording.text(name) in NORM_NODES)

    @cached_property
    def _certain(self) -> frozenset[int]:
        text = self._index.recording.text
        return frozenset(name for name in set(self._names) if has_no_derivative(text(name)))

    @cached_property
    def _names(self) -> list[int]:
        return list(self._index.recording.nodes.column("name"))

    @cached_property
    def _variable(self) -> list[int]:
        return list(self._index.recording.nodes.column("variable"))

    @cached_property
    def _made_by(self) -> list[int]:
        return list(self._index.recording.nodes.column("op"))

    @cached_property
    def _steps(self) -> list[int]:
        return sorted({op for op, *_ in writes_by_program(self._index) if is_step(self._index, op)})

"""Straight-through estimates: ``a + (z - a).detach()`` has the values of ``z``, and hands its gradient to ``a``.

They are found in sums, however they are written: a tensor that is in a sum once with a graph and once, with the other
sign, without one adds nothing to the values and takes the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.zero_derivatives import has_no_derivative
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.index import Index
from gradscope.recording import NONE

_SIGNS = {
    "add": (1, 1),
    "__radd__": (1, 1),
    "sub": (1, -1),
    "rsub": (-1, 1),
    "__rsub__": (-1, 1),
    "neg": (-1,),
}
_CUTS = frozenset(("detach", "data"))
_LARGEST = 32
"""Calls of one sum that are followed."""
_TERMS_DEEP = 6
"""Sums of sums that are looked at."""
_LOOKED_AT = 256
"""Statements with a ``detach`` whose sums are expanded."""


class StraightThrough(NamedTuple):
    """One sum, by its last call."""

    op: int
    takes: int
    """The tensor that takes the gradient."""
    shows: list[int]
    """The tensors whose values the sum has, and which take no gradient from it."""
    sign: int
    """With which sign the gradient is taken."""


class StraightThroughs:
    """Finds them in a recording."""

    def __init__(self, index: Index, flow: Flow) -> None:
        self._index = index
        self._flow = flow

    def of(self, op: int) -> StraightThrough | None:
        """The one that a call is, or None."""
        index = self._index
        made = index.tensors_made(op)
        if self._signs(op) is None or len(made) != 1 or not index.requires_grad(made[0], op + 1):
            return None
        terms = self._terms(op)
        takes = [one for one, (tracked, cut) in terms.items() if abs(tracked) == 1 and tracked + cut == 0]
        shows = [one for one, (tracked, cut) in terms.items() if not tracked and cut == 1]
        if len(takes) != 1 or not shows:
            return None
        return StraightThrough(op, takes[0], shows, terms[takes[0]][0])

    def nothing_but_gradients(self, op: int) -> list[int]:
        """The tensors that a sum adds with their graphs and takes off without: nothing of its value is theirs."""
        terms = self._terms(op) if self._signs(op) is not None else {}
        return [one for one, counted in terms.items() if counted == [1, -1]]

    def tracked_term(self, op: int) -> int:
        """The only tensor that a sum takes with its graph, once; NONE where there are others, or it is no sum."""
        terms = self._terms(op) if self._signs(op) is not None else {}
        tracked = [one for one, (times, _) in terms.items() if times]
        return tracked[0] if len(tracked) == 1 and terms[tracked[0]][0] == 1 else NONE

    def reversed(self) -> Iterator[StraightThrough]:
        """The last one of each statement that shows what was to take the gradient, or takes it with a minus.

        That is seen by what was computed from what: the tensor that takes the gradient was made from the other one, by
        calls without a derivative.
        """
        for ops in self._candidates:
            found = next((one for one in map(self.of, ops) if one is not None), None)
            if found is not None and found.sign > 0:
                op = found.op
                shows = [one for one in found.shows if self._is_tracked(one, op) and self._lost(one, found.takes, op)]
                if shows:
                    yield found._replace(shows=shows)
                continue
            taken_away = next((one for one in map(self._taken_away, ops) if one is not None), None)
            if taken_away is not None and not self._gets_more(taken_away.takes, ops[-1]):
                yield taken_away

    def _taken_away(self, op: int) -> StraightThrough | None:
        """The one that a call is which takes a tensor away with its graph and adds it without: its gradient is -1.

        What the sum shows may have a graph of its own, as a ``round`` has, if that does not lead to the tensor.
        """
        terms = self._terms(op) if self._signs(op) is not None else {}
        takes = [one for one, counted in terms.items() if counted == [-1, 1]]
        shows = [one for one, counted in terms.items() if sorted(counted) == [0, 1]]
        if len(takes) != 1 or len(self._index.tensors_made(op)) != 1:
            return None
        (taken,) = takes
        sources = [taken, *self._made_from(taken)]
        found = [one for one in shows if any(self._lost(source, one, op) for source in sources)]
        return StraightThrough(op, taken, found, -1) if found else None

    def _gets_more(self, tensor: int, op: int) -> bool:
        """Whether a gradient of a sum comes to a tensor through another term too, or twice."""
        terms = self._terms(op)
        return terms.get(tensor) != [-1, 1] or any(
            tracked and one != tensor and self._leads_to(one, tensor) for one, (tracked, _) in terms.items()
        )

    def _made_from(self, tensor: int) -> list[int]:
        """What a tensor was made from by one call that keeps the shape: the logits of a softmax."""
        index = self._index
        made = index.made_by(tensor)
        taken = list(index.uses.of(made)) if 0 <= made < index.op_count else []
        layouts, rows = index.recording.tensors.column("layout"), index.recording.layouts
        is_one = len(taken) == 1 and rows[layouts[taken[0]]].shape == rows[layouts[tensor]].shape
        return taken if is_one else []

    def _leads_to(self, tensor: int, other: int) -> bool:
        """Whether a gradient of a tensor comes to another one, along its graph: not where a derivative is zero."""
        recording = self._index.recording
        nodes, names, variables = (
            recording.tensors.column("node"),
            recording.nodes.column("name"),
            recording.nodes.column("variable"),
        )
        todo, seen = [nodes[tensor]], set[int]()
        while todo:
            node = todo.pop()
            if node < 0 or node in seen or has_no_derivative(recording.text(names[node])):
                continue
            if node == nodes[other] or variables[node] == other:
                return True
            seen.add(node)
            todo += self._index.edges.of(node)
        return False

    @property
    def _candidates(self) -> list[list[int]]:
        """The sums that take what a ``detach`` gave, each with those that it is a term of, in their last runs."""
        index = self._index
        last: dict[int, int] = {}
        texts, funcs = index.recording.text, index.recording.ops.column("func")
        cutting = {func for func in set(funcs) if self._name_of(texts(func)) in _CUTS}
        for cut in (op for op, func in enumerate(funcs) if func in cutting):
            for made in index.tensors_made(cut):
                for op in index.users.of(made):
                    if self._signs(op) is not None:
                        last[index.op_statement[op]] = op
            if len(last) > _LOOKED_AT:
                break
        ways = {tuple(self._sums_from(op)) for op in last.values()}
        return [
            list(way) for way in sorted(ways) if not any(way != other and way == other[-len(way) :] for other in ways)
        ]

    def _sums_from(self, op: int) -> list[int]:
        """A sum, and those of which it is a term, as long as it goes into one alone."""
        index, found = self._index, [op]
        while len(found) < _TERMS_DEEP:
            users = [one for tensor in index.tensors_made(found[-1]) for one in index.users.of(tensor)]
            after = [one for one in users if self._signs(one) is not None]
            if len(after) != 1:
                break
            found += after
        return found

    def _terms(self, op: int) -> dict[int, list[int]]:
        """How often each tensor is in a sum with a graph, and how often without: signed counts."""
        index = self._index
        counts: dict[int, list[int]] = {}
        todo, steps = [(op, 1, True)], 0
        while todo:
            current, sign, has_graph = todo.pop()
            steps += 1
            if steps > _LARGEST:
                return {}
            for tensor, own in zip(index.uses.of(current), self._signs(current) or (), strict=False):
                taken, tracked = self._uncut(tensor, has_graph and index.requires_grad(tensor, current))
                made = index.made_by(taken)
                if made < current and self._signs(made) is not None and index.tensors_made(made) == [taken]:
                    todo.append((made, sign * own, tracked))
                else:
                    counts.setdefault(taken, [0, 0])[0 if tracked else 1] += sign * own
        return counts

    def _uncut(self, tensor: int, tracked: bool) -> tuple[int, bool]:
        """The tensor from which ``detach`` made one, and whether it is still tracked here."""
        for _ in range(_LARGEST):
            made = self._index.made_by(tensor)
            if not 0 <= made < self._index.op_count or self._name_of(self._index.func(made)) not in _CUTS:
                break
            taken = self._index.uses.of(made)
            if len(taken) != 1:
                break
            tensor, tracked = taken[0], False
        return tensor, tracked

    def _signs(self, op: int) -> tuple[int, ...] | None:
        if not 0 <= op < self._index.op_count:
            return None
        namespace, _, name = self._index.func(op).rpartition(".")
        signs = _SIGNS.get(name) if namespace in ("Tensor", "torch") else None
        taken = self._index.uses.of(op)
        if signs is None or len(taken) != len(signs) or "alpha" in self._index.span_source(op):
            return None
        return signs

    def _is_tracked(self, tensor: int, op: int) -> bool:
        return self._index.requires_grad(tensor, op)

    def _lost(self, tensor: int, other: int, op: int) -> bool:
        """Whether a tensor's values went into another one, and no gradient comes back the same way."""
        index = self._index
        steps = self._flow.origins(other, op)
        if tensor not in steps or tensor == other:
            return False
        nodes, names = index.recording.tensors.column("node"), index.recording.nodes.column("name")
        return any(
            step.loses or (nodes[step.gives] >= 0 and has_no_derivative(index.recording.text(names[nodes[step.gives]])))
            for step in self._flow.path(steps, tensor)
        )

    @staticmethod
    def _name_of(function: str) -> str:
        return function.removesuffix(".__get__").rpartition(".")[2]

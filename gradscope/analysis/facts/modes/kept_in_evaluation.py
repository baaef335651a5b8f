"""What an evaluation builds up from the results of its rounds, with their graphs, which no backward pass ever walks.

The results are joined (``torch.cat(predictions)``) or summed up (``total += loss``); till then the graph of each round
is there. That it is an evaluation shows where ``eval()`` was called last, or by what its function is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.modes.training_modes import TrainingModes
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.passes.passes_inside import runs_passes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, REQUIRES_GRAD

AT_LEAST = 3
"""Rounds from which on their results are built up."""
_WORTH_SAYING = 8
"""Nodes that a round with a backward pass has to add: a sum of parts of a graph that is there anyway keeps no more."""
_JOINS = re.compile(r"torch\.(stack|cat|concat|concatenate|vstack|hstack)")
_SUMS = re.compile(r"Tensor\.(add|add_|__add__|__iadd__|__radd__)|torch\.add")
_EVALUATES = re.compile(
    r"(^|[._])(eval|valid|test|predict|infer|backtest|score)|evaluat|validat|predict", re.IGNORECASE
)


class BuiltUp(NamedTuple):
    """Results of the rounds of one evaluation."""

    tensors: tuple[int, ...]
    op: int
    """The call that joined them, or the last that added one."""
    is_sum: bool
    runs_passes: bool
    """Whether backward passes ran meanwhile, or may run in its function: under ``no_grad`` they would fail."""


def kept_in_evaluation(index: Index, passes: Passes, events: Events) -> Iterator[BuiltUp]:
    """Each time that results of rounds were joined or summed up, in order."""
    if not len(index.recording.backwards):
        return
    found = _RoundsFinder(index, passes, TrainingModes(events))
    yield from found.joined()
    yield from found.summed()


class _RoundsFinder:
    def __init__(self, index: Index, passes: Passes, modes: TrainingModes) -> None:
        self._index = index
        self._passes = passes
        self._modes = modes
        columns = (index.recording.tensors.column(name) for name in ("op", "node", "flags"))
        self._made_at, self._node, self._flags = columns

    def joined(self) -> Iterator[BuiltUp]:
        """Results of one call in several rounds that another call took together."""
        index = self._index
        for op in index.calls_of(_JOINS.fullmatch):
            if index.op_statement[op] == NOWHERE:
                continue
            by_call: dict[int, list[int]] = {}
            for tensor in dict.fromkeys(index.uses.of(op)):
                if self._is_unused(tensor):
                    by_call.setdefault(index.recording.ops.column("span")[self._made_at[tensor]], []).append(tensor)
            several = max(by_call.values(), key=len, default=[])
            is_whole = all(self._is_unused(made) for made in index.made.of(op) if self._node[made] >= 0)
            if len(several) >= AT_LEAST and is_whole and self._is_evaluation(self._made_at[several[-1]], op):
                yield from self._built(several, op, range(self._made_at[several[0]], op), is_sum=False)

    def summed(self) -> Iterator[BuiltUp]:
        """Results that a statement added to what it had made itself, round by round."""
        index, chains = self._index, dict[int, list[tuple[int, int]]]()
        for op in index.calls_of(_SUMS.fullmatch):
            statement = index.op_statement[op]
            if statement == NOWHERE:
                continue
            taken = next((one for one in index.uses.of(op) if self._is_of(one, op)), NONE)
            made = next((one for one in (*index.made.of(op), *index.results.of(op))), NONE)
            if taken < 0 or made < 0:
                yield from self._of_chain(chains.pop(statement, []))
            if made >= 0:
                chains.setdefault(statement, []).append((made, op))
        for chain in chains.values():
            yield from self._of_chain(chain)

    def _is_of(self, tensor: int, op: int) -> bool:
        """Whether an earlier run of the same call made a tensor."""
        made_at, spans = self._made_at[tensor], self._index.recording.ops.column("span")
        is_made = made_at < op and not self._flags[tensor] & EXTERNAL and bool(self._flags[tensor] & REQUIRES_GRAD)
        return is_made and spans[made_at] == spans[op] and bool(_SUMS.fullmatch(self._index.func(made_at)))

    def _of_chain(self, chain: list[tuple[int, int]]) -> Iterator[BuiltUp]:
        tensors = [tensor for tensor, _ in chain]
        if len(chain) >= AT_LEAST and all(self._is_unused(one) for one in set(tensors)):
            op = self._made_at[tensors[-1]]
            is_of_layers = self._index.op_place(op).function.rpartition(".")[2] == "forward"
            if not is_of_layers and self._is_evaluation(op, op):
                yield from self._built(tensors, op, range(chain[0][1], chain[-1][1]), is_sum=True)

    def _built(self, tensors: list[int], op: int, meanwhile: range, *, is_sum: bool) -> Iterator[BuiltUp]:
        """Where passes run inside, it is said only of rounds that each made a graph of their own."""
        file = self._index.statements[self._index.op_statement[op]].file
        is_differentiating = runs_passes(self._index, file, self._index.op_line(op), meanwhile)
        if is_differentiating:
            made_by, behind = (
                self._index.recording.nodes.column("op"),
                self._passes.behind(self._index.node_after(tensors[-1])),
            )
            if sum(made_by[node] in meanwhile for node in behind) < _WORTH_SAYING * (len(tensors) - 1):
                return
        yield BuiltUp(tuple(tensors), op, is_sum, is_differentiating)

    def _is_unused(self, tensor: int) -> bool:
        """Whether a result has a graph that no pass came through."""
        node, made_at = self._node[tensor], self._made_at[tensor]
        is_result = node >= 0 and not self._flags[tensor] & EXTERNAL and made_at < self._index.op_count
        return is_result and self._passes.first_walked_at[node] < 0

    def _is_evaluation(self, op: int, joined_at: int) -> bool:
        call = self._modes.in_force(op)
        names = {self._index.op_place(one).function for one in (op, joined_at)}
        return (call is not None and not call.training) or any(_EVALUATES.search(name) for name in names)

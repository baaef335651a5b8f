"""Where items are taken by the indices that a score gives, which carry no gradient: ``x[score.topk(k).indices]``.

The call that gives the indices is right as it is. Where the items are taken by them, the values of the score can be let
in: ``x[best] * score[best]``.
"""

from __future__ import annotations

from gradscope.analysis.facts.derivatives.function_sources import Lines
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Step
from gradscope.analysis.index import NOWHERE, Index

_TAKE_ITEMS = frozenset(
    ("__getitem__", "getitem", "gather", "take", "take_along_dim", "index_select", "masked_select", "embedding")
)


def taken_by_indices(index: Index, cuts: Cuts, way: list[Step]) -> Lines | None:
    """Where items of a tensor of floats are taken by what a cut gave, on the way from a leaf to a root.

    None where the cut gave something else than integers or truth values, or where these are computed with.
    """
    at = next((number for number, step in enumerate(way) if step.loses), -1)
    if at < 0 or cuts.kind(way[at].op) != "not_differentiable":
        return None
    taken = way[at].gives
    for step in way[at + 1 :]:
        if index.is_floating(taken) or index.op_statement[step.op] == NOWHERE:
            return None
        if index.is_floating(step.gives):
            is_index = index.method(step.op).rpartition(".")[2] in _TAKE_ITEMS and index.uses.of(step.op)[0] != taken
            return _lines_of(index, step.op) if is_index else None
        taken = step.gives
    return None


def _lines_of(index: Index, op: int) -> Lines:
    statement = index.statements[index.op_statement[op]]
    return Lines(statement.file, index.op_line(op), statement.end_line, index.recording.text(statement.function))

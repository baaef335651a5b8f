"""What batch norms in training mode did with their running statistics."""

from __future__ import annotations

from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.recording.rows import Field

LEARNED, KEPT = 1, 2
"""As ``Field.WRITTEN`` says it: with a momentum of zero a norm puts the values there that were there."""

_STATISTICS, _WEIGHT = slice(1, 3), slice(3, 4)
"""Of what a call takes: the input comes before the statistics, and these before the weight."""

_LOADS, _COPIES = "load_state_dict", "__deepcopy__"


def runs_in_training(index: Index, written: int) -> list[tuple[int, int]]:
    """Calls in training mode that did with the statistics what is given: op and the weight, in order."""
    changes = index.recording.changes
    columns = (changes.column(name) for name in ("op", "field", "after"))
    ops = {
        op
        for op, field, after in zip(*columns, strict=True)
        if field == Field.WRITTEN and after == written and op < index.op_count
    }
    norms = sorted(op for op in ops if index.func(op) == "F.batch_norm")
    return [(op, weight) for op in norms for weight in index.uses.of(op)[_WEIGHT]]


def with_statistics(index: Index, runs: dict[int, list[int]]) -> set[int]:
    """The weights of norms that had statistics of other data before their first run: learned, loaded, or copied along.

    Args:
        index: The recording.
        runs: Of each weight, runs in training mode, in order.
    """
    learned: dict[int, int] = {}
    loaded: dict[int, int] = {}
    for op, weight in runs_in_training(index, LEARNED):
        learned.setdefault(weight, op)
    for op, tensor, *_ in all_writes(index):
        if op < index.op_count and index.func(op).endswith(_LOADS):
            loaded.setdefault(tensor, op)

    def has_learned(weight: int, before: int) -> bool:
        made = index.made_by(weight)
        is_copy = 0 <= made < before and index.func(made).endswith(_COPIES)
        copied = index.uses.of(made) if is_copy else ()
        return any(learned.get(one, before) < before for one in (weight, *copied))

    return {
        weight
        for weight, (first, *_) in runs.items()
        if has_learned(weight, first)
        or any(loaded.get(one, first) < first for one in index.uses.of(first)[_STATISTICS])
    }

"""Rows that stand for many tensors of one statement: they tell what all of those have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from gradscope.analysis.facts.program.states_after import State
from gradscope.analysis.report_model import LineRow
from gradscope.recording import Recording
from gradscope.recording.rows import Layout

ValueT = TypeVar("ValueT")


def about_all(recording: Recording, row: LineRow, states: Sequence[State]) -> LineRow:
    """The row of the first tensor, without what is not true of every one.

    Args:
        recording: The recording.
        row: The row.
        states: The tensors, the first included, after the statement.
    """
    layouts = [recording.layouts[state.layout] for state in states]

    def text(column: Callable[[Layout], int]) -> str:
        return recording.text(_common([column(layout) for layout in layouts], 0))

    has_one_storage = len({state.storage for state in states}) == 1
    return row._replace(
        shape=text(lambda layout: layout.shape),
        dtype=text(lambda layout: layout.dtype),
        device=text(lambda layout: layout.device),
        type_name=text(lambda layout: layout.type_name),
        requires_grad=_common([state.requires_grad for state in states], None),
        is_leaf=_common([state.is_leaf for state in states], None),
        grad_fn=row.grad_fn if len({state.node < 0 for state in states}) == 1 else "",
        storage=row.storage if has_one_storage else "",
        alias_of="",
        offset=0,
        version=_common([state.version for state in states], None),
        version_before=None,
        saved=(),
    )


def _common(values: Sequence[ValueT], otherwise: ValueT) -> ValueT:
    return values[0] if all(value == values[0] for value in values) else otherwise

"""Parameters that an optimizer was not given, as it was made of what required grad then, and they did not."""

from __future__ import annotations

from collections.abc import Iterable

from gradscope.analysis.diagnoses.optimizers.optimizer_places import cause_of_making, line_of_making
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer
from gradscope.analysis.report_model import Cause
from gradscope.analysis.worded_lines import numbers
from gradscope.frames.names.chosen_by_flags import chosen_by_flag


def chosen_while_frozen(
    sources: Sources, optimizers: Iterable[Optimizer], tensor: int, missed: Iterable[int]
) -> tuple[str, tuple[Cause, ...], int] | None:
    """Why an optimizer does not hold a parameter, the lines (the one that chooses first), and the optimizer's event.

    Args:
        sources: The facts.
        optimizers: Those that may have been meant to hold it.
        tensor: The parameter.
        missed: All that no step changed: what one function froze is told of together.
    """
    index, missed = sources.index, list(missed)
    for optimizer in optimizers:
        made, span = optimizer.made.op, optimizer.made.span
        if index.made_not_before(tensor) >= made or index.requires_grad(tensor, made) or span < 0:
            continue
        row = index.recording.spans[span]
        text = index.recording.files[row.file].text if row.file >= 0 else ""
        lines = chosen_by_flag(text, row.line, row.end_line)
        if lines is None:
            continue
        chooses = sources.cause_of_line("set", row.file, *lines, index.recording.text(row.function))
        frozen = _frozen_at(sources, made, tensor, missed)
        set_at = f"line{'s' * (len(frozen) > 1)} {numbers([cause.line for cause in frozen])}"
        since = f" ({set_at} had set that)" if frozen else ""
        why = (
            f"the {optimizer.name} of line {line_of_making(sources, optimizer)} was made while they did not require "
            f"grad{since}, and line {chooses.line} chooses those alone that do"
        )
        return why, tuple(dict.fromkeys((chooses, *frozen, *cause_of_making(sources, optimizer)))), optimizer.made.row
    return None


def _frozen_at(sources: Sources, made: int, tensor: int, missed: Iterable[int]) -> list[Cause]:
    """The lines of one function that had let go of a parameter, and of others that no step changed, up to an op."""
    index = sources.index
    own = index.let_go_at(tensor, made)
    if own < 0:
        return []
    ops = {index.let_go_at(one, made) for one in missed if not index.requires_grad(one, made)}
    at = {op for op in ops if op >= 0 and index.function_of(op) == index.function_of(own)}
    causes = {cause for op in at for cause in sources.cause("set", op)}
    return sorted(causes, key=lambda cause: cause.line)


def made_with(sources: Sources, optimizers: Iterable[Optimizer], tensor: int) -> list[Optimizer]:
    """The optimizers that hold a parameter which the statement made that made another one: its layer's, for a twin."""
    index = sources.index
    made = index.made_by(tensor)
    if not 0 <= made < index.op_count or not index.op_statement[made]:
        return []
    statement = index.op_statement[made]
    by_same = {
        one
        for optimizer in optimizers
        for one in optimizer.tensors
        if 0 <= (at := index.made_by(one)) < index.op_count and index.op_statement[at] == statement
    }
    return [optimizer for optimizer in optimizers if not by_same.isdisjoint(optimizer.tensors)]

"""What a user asked to see of a run. Options of ``run`` and ``report``; nothing here touches a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gradscope.analysis.selection.answer_selection import AnswerSelection


class RunView(NamedTuple):
    """What to analyse and to show."""

    lines: tuple[int, int] | None = None
    """First and last line (both included) of the target to restrict the line table to."""
    all: bool = False
    """Show every row, however long the run was."""
    ops: bool = False
    """List every single op beside the lines."""
    by_module: bool = False
    """Show what was at work by module instead of by line."""
    graph: bool | None = None
    """Show the autograd graph; None: where it fits."""
    memory: bool | None = None
    """Show the memory of each line; None: where it fits."""
    gradients: bool = False
    """Show how large the gradients of each leaf were."""
    values: bool = False
    """Show the values of small tensors (they must have been recorded)."""
    quiet: bool = False
    """Only the answers and the summary."""
    width: int | None = None
    """Columns of the screen; None: what the terminal has."""
    color: bool | None = None
    """None: as the terminal, NO_COLOR and FORCE_COLOR say."""
    all_answers: bool = False
    """Every answer in full, also several of one cause."""
    selection: AnswerSelection | None = None
    """Which answers are wanted; None: all."""

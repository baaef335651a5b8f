"""Which answers somebody wants. Nothing imports it where all are wanted."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.selection.baseline import Baseline


class AnswerSelection(NamedTuple):
    """Which answers are wanted."""

    select: frozenset[str] | None = None
    """Codes of the answers to give; None: all."""
    ignore: frozenset[str] = frozenset()
    """Codes of answers not to give."""
    baseline: Baseline | None = None
    """Findings that are known, and not answered again."""

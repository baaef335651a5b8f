"""Answers about writes in place: which one broke a backward pass, falsified a gradient, or shows in other tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from gradscope.analysis.report_model import Answer, InplaceWrite
from gradscope.analysis.wording import listed


def inplace_errors(writes: tuple[InplaceWrite, ...]) -> Iterator[Answer]:
    """``modified by an inplace operation``: by which line."""
    for write in writes:
        if write.effect == "raised":
            text = (
                f"Line {write.place.line}: {write.op} wrote into {write.name}, which line {write.saved_line} had saved "
                f"for backward ({write.saved_as}); therefore backward at line {write.backward_line} failed."
            )
            yield Answer("inplace-error", "problem", text, write.place, write.name)


def silently_wrong(writes: tuple[InplaceWrite, ...]) -> Iterator[Answer]:
    """A gradient computed from changed values, of which autograd could not know."""
    for write in writes:
        if write.effect == "silently_wrong":
            text = (
                f"Line {write.place.line}: {write.op} through {write.name} changed memory that line {write.saved_line} "
                f"had saved for backward ({write.saved_as}), past autograd's version counter: the gradient of the "
                f"backward at line {write.backward_line} was computed from the changed values, without an error."
            )
            yield Answer("gradient-silently-wrong", "problem", text, write.place, write.name)


def written_through_alias(writes: tuple[InplaceWrite, ...]) -> Iterator[Answer]:
    """A write that shows in other named tensors."""
    for write in writes:
        if write.seen_by and write.effect in ("none", "unknown", "would_raise", "would_be_silently_wrong"):
            unseen = ", and autograd cannot notice (another version counter)" if write.past_autograd else ""
            text = (
                f"Line {write.place.line}: {write.op} through {write.name} also changed "
                f"{listed(list(write.seen_by))}: they share memory{unseen}."
            )
            severity: Literal["warning", "note"] = "warning" if write.past_autograd else "note"
            yield Answer("write-through-alias", severity, text, write.place, write.name)

"""Answers about writes in place: which one broke a backward pass, falsified a gradient, or shows in other tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from gradscope.analysis.report_model import Answer, InplaceWrite, Place
from gradscope.analysis.wording import listed


def inplace_errors(writes: tuple[InplaceWrite, ...]) -> Iterator[Answer]:
    """``modified by an inplace operation``: by which line; one sentence for the tensors of one line."""
    alike: dict[tuple[Place, str, int, int], list[InplaceWrite]] = {}
    for write in writes:
        if write.effect == "raised":
            alike.setdefault((write.place, write.op, write.saved_line, write.backward_line), []).append(write)
    for (place, op, saved_line, backward_line), same in alike.items():
        kinds = listed([write.saved_as for write in same])
        text = (
            f"Line {place.line}: {op} wrote into {listed([write.name for write in same])}, which line {saved_line} had "
            f"saved for backward ({kinds}); therefore backward at line {backward_line} failed."
        )
        yield Answer("inplace-error", "problem", text, place, same[0].name)


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

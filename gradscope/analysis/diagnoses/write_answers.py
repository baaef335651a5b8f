"""Answers about writes in place: which one broke a backward pass, falsified a gradient, or shows in other tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from gradscope.analysis.facts.best_names import BestNames
from gradscope.analysis.facts.shared_writes import SharedWrite, shared_writes
from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Answer, InplaceWrite, Place, WriteEffect
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


def written_through_alias(
    index: Index, names: BestNames, sharing: StorageGroups, writes: tuple[InplaceWrite, ...]
) -> Iterator[Answer]:
    """A write that shows in other named tensors: one sentence for all that a statement wrote."""
    effects: dict[tuple[Place, str], set[WriteEffect]] = {}
    for write in writes:
        effects.setdefault((write.place, write.op), set()).add(write.effect)
    for shared in shared_writes(index, names, sharing):
        place, func = index.place(shared.statement), index.func(shared.op)
        found = effects.get((place, func), set())
        if shared.is_step:
            yield from _written_by_step(names, shared, place, func)
        elif not found & {"raised", "silently_wrong"}:
            # Where no graph was open that needs the values, a write past autograd is what was meant.
            matters = shared.past_autograd and bool(found - {"none"})
            unseen = ", and autograd cannot notice (another version counter)" if matters else ""
            through = listed([names.of(tensor) for tensor in shared.written], names.of_parameters)
            seen = listed([names.of(tensor) for tensor in shared.seen_by], names.of_parameters)
            text = f"Line {place.line}: {func} through {through} also changed {seen}: they share memory{unseen}."
            severity: Literal["warning", "note"] = "warning" if matters else "note"
            yield Answer("write-through-alias", severity, text, place, names.of(shared.written[-1]))


def _written_by_step(names: BestNames, shared: SharedWrite, place: Place, func: str) -> Iterator[Answer]:
    """An optimizer's step that changed what the program had kept of the parameters."""
    if shared.kept:
        kept = listed([names.of(tensor) for tensor in shared.kept])
        text = (
            f"Line {place.line}: {func} also changed {kept}: they share memory with the "
            "parameters. A copy (clone(), copy.deepcopy) keeps the values."
        )
        yield Answer("write-through-alias", "warning", text, place, names.of(shared.kept[0]))

"""A state that a loop carries on, and that a statement outside of that loop detaches: once, not in each round."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Cause
from gradscope.frames.blocks.loops_around import loops_around
from gradscope.recording import NONE


class DetachedTooSeldom(NamedTuple):
    """One such statement."""

    cause: Cause
    name: str
    loop: int
    """The first line of the loop in whose rounds it would have to stand."""


def detached_too_seldom(sources: Sources, tensors: list[int], op: int) -> DetachedTooSeldom | None:
    """Where what led a pass into an earlier graph was last detached: before the loop began that the pass is in.

    Args:
        sources: The facts.
        tensors: What leads into that graph.
        op: The pass.
    """
    index, text = sources.index, sources.index.recording.text
    here = index.statements[index.op_statement[op]]
    around = loops_around(index.recording.files[here.file].text, here.line) if here.file >= 0 else []
    wanted = {_holder(text(name)) for tensor in tensors for name, _, _ in sources.names_held.get(tensor, ())}
    found: tuple[int, str, int] | None = None
    for made in (one for cut in index.calls_of_methods("Tensor.detach") if cut < op for one in index.made.of(cut)):
        span, holder = _stored_first(sources, made, wanted, op)
        if span == NONE:
            continue
        line = index.recording.spans[span].stmt_line
        loop = next((first for first, _ in around if line < first), NONE)
        if loop == NONE:
            return None  # it is detached in the rounds, too
        found = span, holder, loop
    if found is None:
        return None
    (cause,) = sources.cause_of_span("cut", found[0])
    return DetachedTooSeldom(cause._replace(columns=()), *found[1:])


def _stored_first(sources: Sources, tensor: int, wanted: set[str], op: int) -> tuple[int, str]:
    """The statement of the pass's own function that first had a tensor under a wanted name, which it gives; or NONE."""
    index, text = sources.index, sources.index.recording.text
    here = index.statements[index.op_statement[op]]
    for name, at, span in sources.names_held.get(tensor, ()):
        row, holder = index.recording.spans[span] if span >= 0 else None, _holder(text(name))
        if row is None or at > op or holder not in wanted or (row.file, row.function) != (here.file, here.function):
            continue
        is_store = _stores(index.recording.source(row.file, row.stmt_line, row.stmt_end_line), holder)
        return (span, holder) if is_store else (NONE, "")
    return NONE, ""


def _holder(name: str) -> str:
    return name.partition("[")[0]


def _stores(source: str, name: str) -> bool:
    """Whether a statement gives a name to something."""
    targets, sign, _ = source.partition("=")
    return bool(sign) and name in [one.strip(" ()") for one in targets.split(",")]

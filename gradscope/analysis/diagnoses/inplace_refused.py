"""Writes in place that torch refuses at once: on a leaf, on views that may not be written, on expanded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Severity
from gradscope.recording import NONE


class _Refusal(NamedTuple):
    """One of torch's messages."""

    message: str
    """A part of it."""
    why: str
    """What is wrong with the tensor that was to be written."""
    advice: str
    is_made_wrong: bool = False
    """What one changes first is the line that made the tensor, not the one that writes."""
    made_by: tuple[str, ...] = ()
    """Calls of which one made it so, the tensor or what it is a view of."""


_UPDATE = "Write under torch.no_grad() where it is an update or an initialization; else compute a new tensor."
_REFUSALS = (
    _Refusal("a view of a leaf Variable that requires grad", "is a view of a leaf that requires grad", _UPDATE),
    _Refusal("a leaf Variable that requires grad", "is a leaf that requires grad", _UPDATE),
    _Refusal(
        "function that returns multiple views",
        "is one of several views that one call gave (unbind, chunk, split, an iteration)",
        "Write out of place, or index the tensor for each view instead.",
    ),
    _Refusal(
        "A view was created in no_grad mode",
        "is a view that was made under no_grad",
        "Make the view where grad mode is on, or write under no_grad too.",
        is_made_wrong=True,
    ),
    _Refusal(
        "refers to a single memory location",
        "has elements that share one place in memory (expand)",
        "Take a copy: clone() behind expand, or repeat.",
        is_made_wrong=True,
        made_by=("expand", "expand_as", "broadcast_to", "broadcast_tensors", "as_strided", "meshgrid"),
    ),
    _Refusal(
        "was created inside a custom Function",
        "is a view that a custom Function gave, or its input, which its backward stands for",
        "Return a clone() from forward, or write out of place.",
        is_made_wrong=True,
    ),
)


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that raised, the last of each."""
    index = sources.index
    last: dict[int, tuple[int, _Refusal, Severity | None]] = {}
    in_hooks = {hook.did.get("message") for hook in sources.hooks.all}  # a pass is no write: see hook-raised
    for op, message, severity in sources.raised(*(one.message for one in _REFUSALS)):
        if index.uses.of(op) and message not in in_hooks:
            refusal = next(one for one in _REFUSALS if one.message in message)
            last[index.op_statement[op]] = op, refusal, severity
    for op, refusal, severity in last.values():
        tensor = index.uses.of(op)[0]
        made = sources.made_at(_origin(sources, tensor, refusal.made_by)) if refusal.is_made_wrong else []
        where = f" and line {made[0].line} made" if made else ""
        yield sources.finding(
            f"Line {index.op_line(op)}: {index.call_name(op)} was refused, since {sources.names.at(tensor, op)}, which "
            f"it was to write{where}, {refusal.why}",
            op=op,
            tensors=[tensor],
            causes=[*made, *sources.cause("write", op)],
            advice=refusal.advice,
            severity=severity,
        )


def _origin(sources: Sources, tensor: int, made_by: tuple[str, ...]) -> int:
    """The tensor, or what it is a view of, whichever one of some calls made; the tensor where none of them did."""
    index, made_at = sources.index, sources.index.recording.tensors.column("op")
    view = tensor
    while made_by and view >= 0:
        if index.call_name(made_at[view]).rpartition(".")[2] in made_by:
            return view
        taken = sources.index.uses.of(made_at[view]) if made_at[view] < index.op_count else ()
        on = index.storage_at(view, made_at[view])
        view = next((one for one in taken if one < view and index.storage_at(one, made_at[view]) == on), NONE)
    return tensor


DIAGNOSIS = Diagnosis(
    code="inplace-refused",
    title="torch refused a write in place",
    severity="problem",
    explanation=Explanation(
        meaning="""An in-place operation raised at once: on a leaf that requires grad or a view of one, on one of
            several views that a single call gave, on a view that was made under no_grad or by a custom Function, or on
            expanded memory.""",
        reason="""A leaf is where gradients are collected: were it written with grad mode on, it would be the result of
            an operation and no leaf any more. Views of one call (unbind, chunk, an iteration) and views that were made
            under no_grad have no way to hand a write on to the graph. Elements of an expanded tensor share one place,
            so that it is not defined what a write leaves there.""",
        remedy="""Update parameters under torch.no_grad(). Elsewhere compute a new tensor (y = y + 1), index instead of
            iterating, or take a clone() first.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
w += 1
""",
        instead_of="w += 1",
        silent="with torch.no_grad():\n    w += 1",
    ),
    find=_find,
)

"""Writes in place that torch refuses at once: on a leaf, on views that may not be written, on expanded memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.items_of_chains import item_of_chain
from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook
from gradscope.analysis.report_model import Cause, Severity
from gradscope.frames.modules.inplace_modules import inplace_modules
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
        "A view was created in inference mode",
        "is a view that was made in inference mode",
        "Make the view outside of that mode, or use no_grad there and write under it too.",
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
        "of BackwardHookFunction is a view",
        "went through a full backward hook of its module, behind which it may not be written",
        "Write out of place (inplace=False), or put the hook on a tensor: output.register_hook in a forward hook.",
    ),
    _Refusal(
        "was created inside a custom Function",
        "is a view that a custom Function gave, or its input, which its backward stands for",
        "Return a clone() from forward, or write out of place.",
        is_made_wrong=True,
    ),
)
_DONE = {"made": "makes what writes in place", "set": "registers the hook"}
_OF_FUNCTION = re.compile(r"Output \d+ of (\w+?)(?:Backward)? is a view")


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that raised, the last of each."""
    index = sources.index
    last: dict[int, tuple[int, str, Severity | None]] = {}
    in_hooks = {hook.did.get("message") for hook in sources.hooks.all}  # a pass is no write: see hook-raised
    for op, message, severity in sources.raised(*(one.message for one in _REFUSALS)):
        if index.uses.of(op) and message not in in_hooks:
            last[index.op_statement[op]] = op, message, severity
    for op, message, severity in last.values():
        refusal = next(one for one in _REFUSALS if one.message in message)
        tensor = index.uses.of(op)[0]
        made = _made(sources, tensor, message, refusal)
        where = f" and line {made[0].line} made" if made else ""
        beside = _behind_hook(sources, op, tensor) if "BackwardHook" in refusal.message else []
        there = " and ".join(f"line {cause.line} {_DONE[cause.role]}" for cause in beside)
        yield sources.finding(
            f"Line {index.op_line(op)}: {index.call_name(op)} was refused, since {sources.names.at(tensor, op)}, which "
            f"it was to write{where}, {refusal.why}{f' ({there})' if there else ''}",
            why="the program caught the error and went on without the write" if severity == "warning" else "",
            op=op,
            tensors=[tensor],
            causes=[*made, *beside, *sources.cause("write", op)],
            advice=refusal.advice,
            severity=severity,
        )


def _made(sources: Sources, tensor: int, message: str, refusal: _Refusal) -> list[Cause]:
    """The lines that made what was to be written, where those are wrong: of a Function where its forward returns."""
    name = _OF_FUNCTION.search(message)
    function = sources.functions.of_name.get(f"{name[1]}Backward") if name else None
    if function is not None:
        return sources.causes_at("returned", function.returned_by_forward)
    if not refusal.is_made_wrong:
        return []
    origin = _origin(sources, tensor, refusal.made_by)
    region = sources.cuts.regions.of(_made_op(sources, origin)) if "mode" in refusal.message else NONE
    return [*sources.made_at(origin), *sources.cause("set", region)]


def _made_op(sources: Sources, tensor: int) -> int:
    """The op that made a tensor; the last one for what none was seen to make."""
    return min(sources.index.recording.tensors.column("op")[tensor], sources.index.op_count - 1)


def _behind_hook(sources: Sources, op: int, tensor: int) -> list[Cause]:
    """Where the module that writes is made to work in place, and where the hook was registered."""
    index = sources.index
    statement = index.statements[index.op_statement[op]]
    text = index.recording.files[statement.file].text if statement.file >= 0 else ""
    lines = inplace_modules(text, index.op_line(op), item_of_chain(index, op))
    causes = [sources.cause_of_line("made", statement.file, *lines[0], "")] if len(lines) == 1 else []
    hooks = [hook for hook in sources.hooks.all if hook.kind in ("backward", "backward_pre")]
    of_module = [hook for hook in hooks if _is_on_maker(sources, hook, tensor)]
    for hook in of_module or (hooks if len(hooks) == 1 else []):
        causes += sources.cause_of_event("set", hook.registered[-1])
    return causes


def _is_on_maker(sources: Sources, hook: RegisteredHook, tensor: int) -> bool:
    """Whether a hook is on a module whose own parameters went into the op that a tensor came from."""
    index = sources.index
    made_at = index.recording.tensors.column("op")[tensor]
    parameters = {one for event in hook.registered for one in event.tensors}
    near = range(max(0, made_at - 1), min(made_at + 1, index.op_count))
    return any(not parameters.isdisjoint(index.uses.of(op)) for op in near)


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

"""A forward hook that keeps what its module was given in one place, of a module that is called several times."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.passes.calls_in_passes import calls_by_pass
from gradscope.analysis.report_model import Evidence
from gradscope.frames.called_by_torch.slots_of_hooks import slot_of_hooks
from gradscope.recording.rows import EventKind

_FORWARD, _BACKWARD = ("forward", "forward_pre"), "backward"
_RERUNS = (EventKind.CHECKPOINT, EventKind.REENTRANT_CHECKPOINT)
PASSES = 2
"""Passes for which the module was called several times, from which on it is told."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that keeps something."""
    if any(sources.events.of(kind) for kind in _RERUNS):
        return  # (what runs again in the pass fills the place anew for each call)
    hooks = [event for event in sources.events.of(EventKind.HOOK) if event.tensors]
    said: set[tuple[int, int]] = set()
    for kept_by in (event for event in hooks if event.detail.get("hook") in _FORWARD):
        for read_by in (event for event in hooks if event.detail.get("hook") == _BACKWARD):
            on = kept_by.detail.get("on")
            if not isinstance(on, int) or on != read_by.detail.get("on"):
                continue
            found = _of_pair(sources, kept_by, read_by, said)
            if found is not None:
                yield found


def _of_pair(sources: Sources, kept_by: Happened, read_by: Happened, said: set[tuple[int, int]]) -> Finding | None:
    codes = [_code(sources, event) for event in (kept_by, read_by)]
    kept = slot_of_hooks(codes[0][1:], codes[1][1:])
    if kept is None or (codes[0][0], kept.kept[0]) in said:
        return None
    index = sources.index
    calls = calls_by_pass(index, sources.passes, kept_by.tensors)
    several = {at: times for at, times in calls.items() if times > 1}
    if len(several) < PASSES:
        return None
    said.add((codes[0][0], kept.kept[0]))
    last = max(several)
    line, read = (index.line(file, lines[0]) for (file, _, _), lines in zip(codes, kept[1:], strict=True))
    names = [str(event.detail.get("function", "")) for event in (kept_by, read_by)]
    module = sources.names.of(kept_by.tensors[0])
    return sources.finding(
        f"Line {line}: {names[0]}, a forward hook, keeps what a call was given or gave in {kept.place}, where "
        f"{names[1]} reads it in the backward pass (line {read})",
        why=f"the module of {module} was called {several[last]:,} times for one pass, and each call puts its own in "
        "that place, so that the hook has that of the last one for all of them",
        op=last,
        tensors=[kept_by.tensors[0]],
        causes=[
            sources.cause_of_line("made", codes[0][0], *kept.kept, names[0]),
            sources.cause_of_line("used", codes[1][0], *kept.read, names[1]),
        ],
        evidence=[Evidence("events", event.row) for event in (kept_by, read_by)],
        advice="Keep a list there (append), and pop() from it in the backward hook: that comes to the last call first.",
    )


def _code(sources: Sources, event: Happened) -> tuple[int, str, int]:
    """File of a hook's code, the text of that, and its first line."""
    recording, place = sources.index.recording, event.detail.get("place")
    if not isinstance(place, int) or not 0 <= place < len(recording.spans):
        return -1, "", 0
    span = recording.spans[place]
    return span.file, recording.files[span.file].text if span.file >= 0 else "", span.line


DIAGNOSIS = Diagnosis(
    code="hook-keeps-last-call",
    title="a hook that keeps one call of several for the backward pass",
    severity="warning",
    explanation=Explanation(
        meaning="""A forward hook keeps the input or the output of its module in one place (module.inp = args[0]), and a
            backward hook of the module reads it there. The module is called several times for one backward pass: each
            call overwrites what the one before had put there.""",
        reason="""The backward hook runs once for each call, when all calls are over. It has the gradient of its own
            call, and what was kept of the last one: of factors and norms for each layer (K-FAC, per-sample gradients)
            all but one are of two calls mixed.""",
        remedy="""Append to a list, and pop() from it in the backward hook: the pass comes to the last call first.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

layer, seen = nn.Linear(3, 2), []

def before(module, args):
    module.inp = args[0].detach()

def after(module, grad_input, grad_output):
    seen.append(grad_output[0].T @ module.inp)

layer.register_forward_pre_hook(before)
layer.register_full_backward_hook(after)
for step in range(2):
    a = torch.rand(4, 3, requires_grad=True)
    b = torch.rand(4, 3, requires_grad=True)
    (layer(a) - layer(b)).pow(2).sum().backward()
""",
        instead_of="(layer(a) - layer(b)).pow(2).sum().backward()",
        silent="(layer(a) - b[:, :2]).pow(2).sum().backward()",
    ),
    find=_find,
)

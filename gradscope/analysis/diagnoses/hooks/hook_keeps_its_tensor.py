"""Hooks on results that refer to these results, or to what was made from them: each keeps the other for good."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind

AT_LEAST = 3
"""Passes whose hooks are still there, from which on they stay: those of the last one may only not be gone yet."""
LOOKED_AT = 16
"""Hooks of one line whose graphs are walked."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line whose hooks stay."""
    by_subject: dict[int, list[Happened]] = {}
    for event in sources.events.of(EventKind.HOOK_THERE):
        if len(event.tensors) > 1:
            by_subject.setdefault(event.subject, []).append(event)
    for hook in sources.hooks.all if by_subject else ():
        there = by_subject.get(hook.registered[0].subject, [])
        passes = {sources.hooks.passes_before(int(event.detail.get("registered", 0))) for event in there}
        if len(passes) < AT_LEAST:
            continue
        cycles = [(event, at) for event in there[-LOOKED_AT:] if (at := _leads_back(sources, event)) > 0]
        if len(cycles) >= AT_LEAST:
            yield _finding(sources, hook, len(there), *cycles[-1])


def _leads_back(sources: Sources, event: Happened) -> int:
    """The place of the tensor that keeps the one that the hook is on: itself, or made from it; 0 where none does."""
    died, node = (sources.index.recording.tensors.column(name) for name in ("died", "node"))
    own, *referred = event.tensors
    for at, tensor in enumerate(referred, 1):
        if died[tensor] != NONE:
            continue
        if tensor == own or (node[own] >= 0 and node[own] in sources.passes.behind(node[tensor])):
            return at
    return 0


def _finding(sources: Sources, hook: RegisteredHook, count: int, event: Happened, at: int) -> Finding:
    index = sources.index
    own, kept = event.tensors[0], event.tensors[at]
    names = event.detail.get("names", ())
    name = names[at - 1] if isinstance(names, list) and len(names) >= at else ""
    made_at = index.recording.tensors.column("op")[own]
    on = sources.names.at(own, made_at)
    what = f"{on} itself" if kept == own else f"{sources.names.of(kept)}, which was made from it"
    read = hook.source.reads(name) if name else None
    by = f" (as {name})" if name and name != on else ""
    return sources.finding(
        f"Line {index.span_line(event.span)}: {hook.name}, the hook on {on}, refers to {what}{by}",
        why=f"the graph of {on} keeps the hook, and the hook keeps that graph, so that none of them is ever freed: "
        f"{count} are still there at the end",
        op=min(made_at, index.op_count - 1),
        tensors=[own],
        causes=[
            *sources.cause_of_event("made", event),
            *sources.causes_at("used", [hook.lines(*read)] if read is not None else []),
        ],
        evidence=[Evidence("events", event.row)],
        advice="Let the hook refer to a copy of the values (detach()), or to numbers.",
    )


DIAGNOSIS = Diagnosis(
    code="hook-keeps-its-tensor",
    title="a hook that refers to the tensor that it is on",
    severity="warning",
    explanation=Explanation(
        meaning="""A hook was registered on a result of each iteration, and it refers to that result, or to one made
            from it. Those of earlier passes are still there at the end.""",
        reason="""The graph keeps the hooks of its results. A hook keeps the variables of the function around it, and
            what it is bound to. Where one of these leads to the graph again, each keeps the other; Python's garbage
            collector does not see the way through the graph, and frees nothing of it.""",
        remedy="""Give the hook what it needs without the graph (value = h.detach()), keep only numbers, or keep the
            handle that register_hook() returns, and call its remove() after the pass.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
scores = []
def watch(h):
    h.register_hook(lambda grad: scores.append((grad * h).sum().item()))
    return h
for step in range(5):
    watch(w * step).sum().backward()
""",
        instead_of="h.register_hook(lambda grad: scores.append((grad * h).sum().item()))",
        silent="value = h.detach()\nh.register_hook(lambda grad: scores.append((grad * value).sum().item()))",
    ),
    find=_find,
)

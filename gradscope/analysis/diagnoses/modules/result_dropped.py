"""A method or a function that gives a new tensor, called as if it changed the one that it was given."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.program.results_dropped import (
    LayerDropped,
    UpdateDropped,
    layers_dropped,
    results_dropped,
    updates_dropped,
)
from gradscope.analysis.report_model import Evidence
from gradscope.frames.without_effect.dropped_results import dropped_call
from gradscope.frames.without_effect.dropped_updates import DroppedUpdate, dropped_layers
from gradscope.recording.rows import EventKind

_FROM = "from_pretrained"
"""A class method: called on an object, it makes another."""


_LOOK_ON = ("forward", "forward_pre")
"""Hooks that may take what a layer gives."""


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in results_dropped(index):
        method = index.func(found.op).rpartition(".")[2]
        yield sources.finding(
            f"Line {index.op_line(found.op)}: {found.owner}.{method}() gives a new tensor, which nothing takes, and "
            f"{found.owner} stays as it is",
            op=found.op,
            tensors=[found.taken],
            causes=sources.cause("used", found.op),
            advice=f"Write {found.owner} = {found.owner}.{method}(…)"
            + (f", or {found.owner}.{method}_(…)." if method in ("detach", "clamp", "clip", "masked_fill") else "."),
        )
    for dropped in updates_dropped(index):
        yield _update(sources, dropped)
    yield from _layers(sources)
    yield from _tables(sources)


def _layers(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that drops what a layer gives, where no hook may take it."""
    texts = (file.text for file in sources.index.recording.files if file.is_user)
    hooks = sources.events.of(EventKind.HOOK)
    if any(map(dropped_layers, texts)) and not any(hook.detail.get("hook") in _LOOK_ON for hook in hooks):
        unreached = {tensor for tensor, is_reached in sources.gradients.leaves_reached.items() if not is_reached}
        yield from (_layer(sources, layer) for layer in layers_dropped(sources.index, unreached))


def _tables(sources: Sources) -> Iterator[Finding]:
    """Embeddings that ``from_pretrained`` made for nobody: one for each place."""
    index, told = sources.index, set[tuple[int, int]]()
    for event in sources.events.of(EventKind.TABLE_MADE):
        span = index.recording.spans[event.span] if event.span >= 0 else None
        text = index.recording.files[span.file].text if span is not None and span.file >= 0 else ""
        found = dropped_call(text, span.line, _FROM) if span is not None else None
        if span is None or found is None or (span.file, found[1]) in told:
            continue
        told.add((span.file, found[1]))
        owner, kind = found[0], event.detail.get("module")
        yield sources.finding(
            f"Line {index.line(span.file, found[1])}: {owner}.{_FROM}() gives a new {kind}, which nothing takes, and "
            f"{owner} stays as it is",
            op=min(event.op, index.op_count - 1),
            tensors=list(event.tensors[:1]),
            causes=[sources.cause_of_line("used", span.file, *found[1:], index.recording.text(span.function))],
            evidence=[Evidence("events", event.row)],
            advice=f"Write {owner} = nn.{kind}.{_FROM}(…); it freezes the weight unless freeze=False.",
        )


def _layer(sources: Sources, found: LayerDropped) -> Finding:
    index, names = sources.index, sources.listed([sources.names.of(one) for one in found.weights])
    return sources.finding(
        f"Line {index.op_line(found.op)}: {found.layer}({found.owner}) gives a new tensor, which nothing takes",
        why=f"{found.owner} stays as it is, and no backward pass gives {names} a gradient",
        op=found.op,
        tensors=[*found.weights, found.taken],
        causes=sources.cause("used", found.op),
        advice=f"Write {found.owner} = {found.layer}({found.owner}).",
    )


def _update(sources: Sources, dropped: UpdateDropped) -> Finding:
    index, call = sources.index, dropped.found
    return sources.finding(
        f"Line {index.op_line(dropped.op)}: {call.function}() gives a new tensor, which nothing takes, "
        f"and {call.owner} stays as it is",
        op=dropped.op,
        tensors=[dropped.taken],
        causes=sources.cause("used", dropped.op),
        advice=_advice(call, index.is_leaf_with_grad(dropped.taken, dropped.op)),
    )


def _advice(call: DroppedUpdate, is_leaf: bool) -> str:
    """A leaf that requires grad is not to be replaced by a result; nor does a loop's own name hold one for long."""
    if is_leaf or call.is_loops:
        return f"Write {call.in_place}{' under no_grad' if is_leaf else ''}." if call.in_place else ""
    in_place = f", or {call.in_place}" if call.in_place else ""
    return f"Write {call.owner} = {call.function}(…){in_place}."


DIAGNOSIS = Diagnosis(
    code="result-dropped",
    title="a call that gives a new tensor, which nothing takes",
    severity="warning",
    explanation=Explanation(
        meaning="""A statement in a loop or a function is nothing but a call like hidden.detach() or w.clamp(0, 1), and
            nothing took the tensor that it gave. Or like torch.add(total, x) or F.normalize(w), whose first
            argument is used on. Or like self.norm(h), whose argument is used on, and whose layer no backward pass
            reaches. Or self.table.from_pretrained(vectors), which makes another table. Calls under try or
            with, in a test, or beside a clock are left out.""",
        reason="""Methods without an underscore at their end leave their tensor as it is and give a new one. A hidden
            state keeps its graph, a weight its values. So do the functions of torch and torch.nn.functional.""",
        remedy="""hidden = hidden.detach(), or the method that changes the tensor in place: w.clamp_(0, 1) under
            no_grad.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
for step in range(3):
    hidden = w * 2
    hidden.detach()
    print(hidden.requires_grad)
""",
        instead_of="hidden.detach()",
        silent="hidden = hidden.detach()",
    ),
    find=_find,
)

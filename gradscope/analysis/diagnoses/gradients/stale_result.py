"""A result that was computed once, is used in every iteration, and whose weights the steps of all of them changed."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.cached_weights import OF_CACHED, cached_at
from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory.caching_functions import caches_around
from gradscope.analysis.facts.memory_writes.stale_results import StaleResult, stale_results
from gradscope.analysis.facts.memory_writes.stale_values import StaleValue, stale_values
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.blocks.filled_once import filled_once
from gradscope.frames.names.stored_names import assigned_names


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each result."""
    index, kept = sources.index, set[int]()
    for stale in stale_results(index, sources.passes, sources.lives):
        made_at = index.recording.tensors.column("op")[stale.tensor]
        causes = sources.stored(stale.tensor, stale.last) or _put_on_object(sources, stale.tensor)
        if not causes and (cached := cached_at(sources, [stale.tensor], stale.last)):
            yield _of_cached(sources, stale, cached)
            continue
        name = sources.names.at(stale.tensor, made_at)
        # What a later iteration computes anew is as old as was meant; of what has no name only the call tells.
        if _is_anew(sources, stale.tensor) or not (causes or index.calls_like(made_at) == 1):
            causes = _kept_by_key(sources, stale.tensor)
            if not causes or causes[0].line in kept:
                continue  # (the same, under another key)
            kept.add(causes[0].line)
            name = sources.names.of(stale.tensor)
        causes = causes or sources.cause("made", made_at)
        line = causes[0].line if causes else index.op_line(made_at)
        yield sources.finding(
            f"Line {line}: {name} was computed once, and used again after each of {index.times(stale.steps):,} steps "
            f"that changed {_changed(sources, stale)}, from which it was computed",
            why="its graph saved nothing, so that later passes go through it without an error and take the values that "
            "the weights gave before the first of these steps"
            if stale.is_freed
            else "retain_graph=True keeps the graph with the values that the weights gave before the first of these "
            "steps, so that later passes take these values, and gradients at them",
            op=made_at,
            tensors=[stale.tensor],
            causes=causes,
            evidence=[Evidence("ops", op) for op in (stale.first, stale.steps[-1], stale.last)],
            advice="Compute it in the loop, after each step; detach() it where it is to stay as it was.",
        )
    for value in stale_values(index, sources.passes, sources.lives):
        yield _of_value(sources, value)


def _of_value(sources: Sources, value: StaleValue) -> Finding:
    """Values of a trained leaf that were taken once, and weigh a loss in each round."""
    index, leaf = sources.index, sources.names.of(value.leaf)
    stored = sources.stored(value.tensor, value.used) if value.tensor >= 0 else []
    causes = stored or sources.cause("made", value.op)
    line = causes[0].line if causes else index.op_line(value.op)
    name = sources.names.at(value.tensor, value.used) if value.tensor >= 0 else "a number"
    return sources.finding(
        f"Line {line}: {name} was computed from {leaf} once, and line {index.op_line(value.used)} computed with it "
        f"again after each of {index.times(value.steps):,} steps that changed {leaf}",
        why=f"it has no graph, and stays what {leaf} gave before the first step: how {leaf} is trained has no effect "
        "there",
        op=value.op,
        tensors=[value.leaf],
        causes=causes,
        evidence=[Evidence("ops", op) for op in (value.steps[-1], value.used)],
        advice="Compute it in the loop, after each step.",
    )


def _of_cached(sources: Sources, stale: StaleResult, causes: list[Cause]) -> Finding:
    """A weight that ``parametrize.cached()`` keeps while steps change what it is computed from."""
    times = sources.index.times(stale.steps)
    return sources.finding(
        f"Line {causes[0].line}: parametrize.cached() keeps the weight that it computed first, which was used again "
        f"after each of {times:,} steps that changed {_changed(sources, stale)}, from which it was computed",
        op=sources.index.recording.tensors.column("op")[stale.tensor],
        tensors=[stale.tensor],
        causes=causes,
        evidence=[Evidence("ops", op) for op in (stale.first, stale.steps[-1], stale.last)],
        advice=OF_CACHED,
    )


def _kept_by_key(sources: Sources, tensor: int) -> list[Cause]:
    """Where a function keeps what it computes, a result for each key, if one was used after all of them were made.

    One that is made again, since the place was emptied, takes the place of the one before, which has no use then.
    """
    index, ops = sources.index, sources.index.recording.ops
    made_at = index.recording.tensors.column("op")[tensor]
    where = index.statements[index.op_statement[made_at]]
    users = index.users.of(tensor)
    if where.file < 0 or not users:
        return []
    spans, funcs = ops.column("span"), ops.column("func")
    place = spans[made_at], funcs[made_at]
    if any((spans[op], funcs[op]) == place for op in range(users[-1], index.op_count)):
        return []
    text = index.recording.files[where.file].text
    found = {(line, end) for line, end, _ in caches_around(text, where.line, 0)}
    if not found and (filled := filled_once(text, where.line)) is not None:
        found = {(filled.line, filled.end_line)}
    return [sources.cause_of_line("made", where.file, line, end, "") for line, end in found] if len(found) == 1 else []


def _attributes(sources: Sources, tensor: int) -> set[int]:
    """The names by which statements read a tensor as part of an object: ``self.features``."""
    text = sources.index.recording.text
    return {name for name, _, span in sources.names_held.get(tensor, ()) if span >= 0 and "." in text(name)}


def _is_anew(sources: Sources, tensor: int) -> bool:
    """Whether another tensor was stored in its place, under its name or on its object."""
    attributes = _attributes(sources, tensor)
    return sources.is_stored_again(tensor) or any(
        other != tensor and not attributes.isdisjoint(name for name, _, _ in rows)
        for other, rows in sources.names_held.items()
    )


def _put_on_object(sources: Sources, tensor: int) -> list[Cause]:
    """The one assignment of the file that reads it which gives an object what it reads."""
    recording = sources.index.recording
    names = _attributes(sources, tensor)
    spans = [span for name, _, span in sources.names_held.get(tensor, ()) if name in names and span >= 0]
    if not spans:
        return []
    span = recording.spans[spans[0]]
    known = {recording.text(name) for name in names}
    lines = {line for line, name in assigned_names(recording.files[span.file].text) if name in known}
    return [sources.cause_of_line("made", span.file, line, line, "") for line in lines] if len(lines) == 1 else []


def _changed(sources: Sources, stale: StaleResult) -> str:
    return sources.listed([sources.names.of(stale.leaf)])


DIAGNOSIS = Diagnosis(
    code="stale-result",
    title="a result of weights as they were several steps ago",
    severity="warning",
    explanation=Explanation(
        meaning="""A result was computed once, and backward passes go through its graph after each of several steps,
            though these steps change the weights that it was computed from. Or the value of a small trained parameter
            (a temperature) was taken once, with detach() or item(), and multiplies a loss after each of its steps.""",
        reason="""retain_graph=True keeps the graph for another pass; one that saved nothing needs no keeping. The
            result is not computed anew by that: it has the values of the old weights, and the gradients are those of
            the old values. Autograd raises an error only where a node had saved the very weights that were changed.""",
        remedy="""Compute the result inside the loop, and leave retain_graph=True out. Where it is to stay as it was
            (features of a frozen model), compute it under torch.no_grad() and keep its weights from the
            optimizer.""",
    ),
    example=Example(
        shows="""\
import torch

trunk, head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD([*trunk.parameters(), *head.parameters()], lr=0.1)
x = torch.ones(4, 2)
features = trunk(x)
for step in range(5):
    loss = head(features).sum()
    optimizer.zero_grad()
    loss.backward(retain_graph=True)
    optimizer.step()
""",
        instead_of="loss = head(features).sum()",
        silent="features = trunk(x)\nloss = head(features).sum()",
    ),
    find=_find,
)

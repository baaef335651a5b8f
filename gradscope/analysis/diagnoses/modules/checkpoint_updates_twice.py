"""Activation checkpointing runs a function again in backward: what it updates is updated in both runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.rerun_causes import OF_LEFT, USED_TWICE, causes_of_left, owned
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.checkpoints import reruns
from gradscope.analysis.facts.modules.power_iterations import MovedAgain, moved_again
from gradscope.analysis.facts.modules.rerun_states import found_otherwise
from gradscope.analysis.facts.modules.updated_again import UpdatedAgain, updated_again
from gradscope.analysis.report_model import Evidence
from gradscope.recording.rows import EventKind, Field, OpKind

_NORMS = ("batch_norm", "instance_norm")
_COUNTER = "num_batches_tracked"
"""What normalizations count beside their statistics, of which a finding of its own tells."""


def _find(sources: Sources) -> Iterator[Finding]:
    yield from _statistics(sources)
    yield from _own_state(sources)
    yield from _power_iterations(sources)
    yield from _left(sources)


def _left(sources: Sources) -> Iterator[Finding]:
    """One finding for each list, or sum, of tensors with a graph to which backward added again, and that kept these.

    (Where a later pass failed, as it came into their graphs, that says so.)
    """
    failed = {event.span for event in sources.events.of(EventKind.CHECKPOINT)} if sources.raised(USED_TWICE) else ()
    for found in found_otherwise(sources.index, sources.events):
        if found.sort == "left" and found.lines and found.span not in failed:
            causes = causes_of_left(sources, found)
            yield sources.finding(
                f"Line {causes[0].line}: backward runs the function again that line {causes[-1].line} checkpoints, "
                f"which adds to {owned(found)} a second time: what it added is still there, with its graph, in the "
                "next forward pass",
                op=sources.index.op_count - 1,
                tensors=[],
                causes=causes,
                evidence=[Evidence("events", found.event)],
                advice=OF_LEFT,
            )


def _power_iterations(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that checkpoints, about the vectors of spectral norms."""
    by_line: dict[int, list[MovedAgain]] = {}
    for again in moved_again(sources.index, sources.events, sources.passes):
        by_line.setdefault(again.rerun.event.span, []).append(again)
    for runs in by_line.values():
        causes = sources.cause_of_event("used", runs[0].rerun.event)
        vectors = {tensor: op for run in runs for tensor, op in run.vectors.items()}
        names = sources.listed([sources.names.of(tensor) for tensor in vectors])
        where = f"Line {causes[0].line}" if causes else "A call"
        last = runs[-1]
        op = max(last.vectors.values())
        yield sources.finding(
            f"{where}: checkpoint ran a function with a power iteration (spectral_norm in training mode), and backward "
            f"runs it again: {names} {'are' if len(vectors) > 1 else 'is'} moved twice a batch, and the weights that "
            "backward computes with are not those of the forward pass",
            op=op,
            tensors=list(vectors),
            causes=causes,
            evidence=[Evidence("events", last.rerun.event.row), Evidence("ops", max(last.rerun.nodes.values()))],
            advice="Leave the module with the spectral norm outside of what is checkpointed, or do not checkpoint it.",
        )


def _own_state(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that checkpoints, about what the program's functions update themselves."""
    index = sources.index
    by_line: dict[int, list[UpdatedAgain]] = {}
    for again in updated_again(index, sources.events, sources.passes, sources.sharing):
        by_line.setdefault(again.event.span, []).append(again)
    for runs in by_line.values():
        causes = sources.cause_of_event("used", runs[0].event)
        if not causes:
            continue
        updates = {tensor: op for run in runs for tensor, op in run.updates.items()}
        updates = {tensor: op for tensor, op in updates.items() if not sources.names.of(tensor).endswith(_COUNTER)}
        if not updates:
            continue
        names = _names(sources, updates)
        tensor, op = next(reversed(updates.items()))
        were, are = ("they were", "they are") if len(names) > 1 else ("it was", "it is")
        yield sources.finding(
            f"Line {causes[0].line}: checkpoint ran a function that updates {sources.listed(names)} from what {were}, "
            f"and backward runs it again: {are} updated twice a batch",
            op=op,
            tensors=[tensor],
            causes=causes,
            evidence=[Evidence("events", runs[-1].event.row), Evidence("ops", op)],
            advice="Leave the update outside of what is checkpointed, or do not checkpoint it.",
        )


def _names(sources: Sources, tensors: Iterable[int]) -> list[str]:
    """The names of tensors, those of an object by a name that tells which object it is where one is known."""
    names = list(dict.fromkeys(sources.names.of(tensor) for tensor in tensors))
    ends = tuple(f".{name.removeprefix('self.')}" for name in names if not name.startswith("self."))
    return [name for name in names if not (name.startswith("self.") and any(end.endswith(name[4:]) for end in ends))]


def _statistics(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that checkpoints, about the statistics of all that it ran."""
    index = sources.index
    written: dict[int, list[int]] = {}
    kinds = index.recording.ops.column("kind")
    for change in (index.recording.changes[row] for row in index.written_rows):
        if change.field != Field.WRITTEN or change.op >= index.op_count:
            continue
        # A module of torch's own that is checkpointed as it is: all that it did is one op.
        if index.func(change.op).endswith(_NORMS) or kinds[change.op] == OpKind.GROUP:
            written.setdefault(change.op, []).append(change.tensor)
    if not written:
        return
    found = {}
    by_line: dict[int, dict[int, None]] = {}
    for rerun in reruns(index, sources.events, sources.passes):
        if norms := [op for op in rerun.ops if op in written and op in rerun.nodes]:
            found[rerun.event.span] = rerun, norms
            statistics = by_line.setdefault(rerun.event.span, {})
            statistics |= dict.fromkeys(tensor for op in norms for tensor in written[op])
    for rerun, norms in found.values():
        tensors = list(by_line[rerun.event.span])
        backward = rerun.nodes[norms[-1]]
        names = sources.listed([sources.names.of(tensor) for tensor in tensors])
        causes = sources.cause_of_event("used", rerun.event)
        where = f"Line {causes[0].line}" if causes else "A call"
        ran = "a normalization" if kinds[norms[0]] == OpKind.GROUP else index.call_name(norms[0])
        yield sources.finding(
            f"{where}: checkpoint ran {ran} in training mode, and backward runs the function "
            f"again: {names} are updated twice a batch",
            op=norms[-1],
            tensors=tensors,
            causes=causes,
            evidence=[Evidence("events", rerun.event.row), Evidence("ops", backward)],
            advice="Leave the normalization outside of what is checkpointed, or do not checkpoint it.",
        )


DIAGNOSIS = Diagnosis(
    code="checkpoint-updates-twice",
    title="what a checkpointed function updates is updated in backward too",
    severity="warning",
    explanation=Explanation(
        meaning="""A function under torch.utils.checkpoint contains a normalization in training mode, or updates what
            the program keeps (an average, a count, a list of losses), and a backward pass came through it: the running
            statistics, or what is kept, are updated by the forward pass and again by backward.""",
        reason="""Checkpointing keeps no activations. Backward runs the function a second time to have them, with all
            that it does besides: BatchNorm moves its running mean and variance by the same batch again and counts the
            batch twice, so that they are not those of a run without checkpointing.""",
        remedy="""Leave the normalization, or the update, outside of the function that is checkpointed, or use a
            normalization without running statistics (GroupNorm, LayerNorm), or do not checkpoint the block. Where a
            momentum was chosen that accounts for both updates there is nothing to mend.""",
    ),
    example=Example(
        shows="""\
import torch
from torch.utils.checkpoint import checkpoint

norm = torch.nn.BatchNorm1d(3)
x = torch.randn(4, 3, requires_grad=True)
y = checkpoint(norm, x, use_reentrant=False)
y.sum().backward()
""",
        instead_of="y = checkpoint(norm, x, use_reentrant=False)",
        silent="y = norm(x)",
    ),
    find=_find,
)

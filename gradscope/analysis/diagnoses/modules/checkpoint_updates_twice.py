"""Activation checkpointing runs a function again in backward: running statistics are updated in both runs."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.checkpoints import reruns
from gradscope.analysis.report_model import Evidence
from gradscope.recording.rows import Field, OpKind

_NORMS = ("batch_norm", "instance_norm")


def _find(sources: Sources) -> Iterator[Finding]:
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
    title="running statistics under activation checkpointing are updated in backward too",
    severity="warning",
    explanation=Explanation(
        meaning="""A function under torch.utils.checkpoint contains a normalization in training mode, and a backward
            pass came through it: its running statistics are updated by the forward pass and again by backward.""",
        reason="""Checkpointing keeps no activations. Backward runs the function a second time to have them, with all
            that it does besides: BatchNorm moves its running mean and variance by the same batch again and counts the
            batch twice, so that they are not those of a run without checkpointing.""",
        remedy="""Leave the normalization outside of the function that is checkpointed, or use one without running
            statistics (GroupNorm, LayerNorm), or do not checkpoint the block. Where a momentum was chosen that
            accounts for both updates there is nothing to mend.""",
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

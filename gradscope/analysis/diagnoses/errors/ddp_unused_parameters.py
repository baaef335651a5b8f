"""DistributedDataParallel waited for gradients that a pass never gave."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import GradOutcome

_MESSAGE = "Expected to have finished reduction in the prior iteration before starting a new one"


def _find(sources: Sources) -> Iterator[Finding]:
    outcome = sources.index.recording.info.outcome
    if not outcome.message.startswith(_MESSAGE) or not sources.gradients.groups:
        return
    last = max(sources.gradients.groups, key=lambda group: group.last_op)
    flags = sources.index.recording.tensors.column("flags")
    unused = [
        tensor
        for tensor, entry in last.tensors.items()
        if entry.outcome == GradOutcome.MISSING and entry.last_op == last.last_op and flags[tensor] & PARAMETER
    ]
    if not unused:
        return  # the outputs of forward did not all lead to the loss, or another rank is meant
    backward = sources.index.op_line(last.last_op)
    shown = sources.listed([sources.names.at(tensor, last.last_op) for tensor in unused])
    yield sources.finding(
        f"Line {sources.index.line(outcome.file, outcome.line)}: DistributedDataParallel refused the next forward",
        why=f"the backward pass of line {backward} gave {shown} no gradient, and it waits for that of each parameter",
        op=last.last_op,
        tensors=unused,
        causes=[cause for tensor in unused for cause in sources.made_at(tensor)],
        advice="Use them in forward or take them out; where it is meant, wrap with find_unused_parameters=True.",
    )


DIAGNOSIS = Diagnosis(
    code="ddp-unused-parameters",
    title="DistributedDataParallel waits for parameters that got no gradient",
    severity="problem",
    explanation=Explanation(
        meaning="""A module in DistributedDataParallel has parameters that require grad and that the loss was not
            computed from; the second forward pass then ends with "Expected to have finished reduction".""",
        reason="""DDP averages gradients in buckets, each as soon as all its parameters have theirs. One that
            never comes keeps its bucket open, and on every rank the others wait for it.""",
        remedy="""Use the layer in forward, or take it out of the model, or freeze it before it is wrapped. Where
            forward uses different layers at different times, find_unused_parameters=True looks for them each time.""",
    ),
    example=Example(
        shows="""\
import torch
import torch.distributed as dist
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(2, 2)
        self.extra = nn.Linear(2, 2)

    def forward(self, x):
        return self.body(x)


dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
model = nn.parallel.DistributedDataParallel(Net())
try:
    for _ in range(2):
        model(torch.ones(1, 2)).sum().backward()
finally:
    dist.destroy_process_group()
""",
        instead_of="return self.body(x)",
        silent="return self.extra(self.body(x))",
    ),
    find=_find,
)

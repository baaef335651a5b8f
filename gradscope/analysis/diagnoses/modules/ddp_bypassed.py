"""A module in DistributedDataParallel is trained past it: each process keeps the gradients of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.ranks.collectives import is_of_numbers
from gradscope.recording import NONE
from gradscope.recording.flags import COLLECTIVE_OP
from gradscope.recording.rows import GradOutcome

_WRAPPER = "DistributedDataParallel"
_RECEIVED = (GradOutcome.CREATED, GradOutcome.ACCUMULATED)


def _find(sources: Sources) -> Iterator[Finding]:
    """Only where one was made, none was at work, and the line that runs its module says so: ``.module(``, its name."""
    index = sources.index
    recording = index.recording
    made = index.calls_of(lambda name: name.endswith(f"{_WRAPPER}.__init__"))
    if not made or any(recording.text(module.kind) == _WRAPPER for module in recording.modules):
        return
    given = {row.tensor for row in recording.gradients if row.outcome in _RECEIVED}
    for number, module in enumerate(recording.modules):
        if module.parent != NONE or module.span == NONE:
            continue
        place = index.place(index.statement_of_span[module.span])
        below = _with_parts(sources, number)
        tensors = [row.tensor for row in recording.module_tensors if row.module in below and row.tensor in given]
        wrapped_by = [op for op in made if not set(tensors).isdisjoint(index.uses.of(op))]
        roots = {sources.names.of(tensor).partition(".")[0] for tensor in tensors}
        if wrapped_by and _says_so(sources, module.span, roots) and not _averages_itself(sources, wrapped_by[-1]):
            yield sources.finding(
                f"Line {place.line} calls the module inside {_WRAPPER} (line {index.op_line(wrapped_by[-1])})",
                why="so the gradients of its parameters are not averaged over the processes: each keeps its own",
                op=module.op,
                tensors=tensors,
                causes=sources.cause_of_span("used", module.span),
                advice="Call the wrapper itself in training: it runs the module and sees to its gradients.",
            )
            return


def _says_so(sources: Sources, span: int, roots: set[str]) -> bool:
    """Whether a call reads ``wrapper.module(…)``, or has the name of the module that was wrapped.

    Not where something is compiled: what runs compiled is not seen as a module at work.
    """
    index = sources.index
    row = index.recording.spans[span]
    source = index.recording.source(row.file, row.stmt_line, row.stmt_end_line)
    if re.search(r"\.module\(", source):
        return True
    calls = any(root and re.search(rf"(?<![\w.]){re.escape(root)}\(", source) for root in roots)
    return calls and "compile" not in index.recording.files[row.file].text


def _averages_itself(sources: Sources, since: int) -> bool:
    """Whether the program lets processes exchange tensors of its own: it may average the gradients by itself."""
    index = sources.index
    kinds = index.recording.ops.column("kind")
    return any(kinds[op] == COLLECTIVE_OP and not is_of_numbers(index, op) for op in range(since, index.op_count))


def _with_parts(sources: Sources, root: int) -> set[int]:
    """A module and all that are part of it."""
    found, parents = {root}, sources.index.recording.modules.column("parent")
    before = 0
    while len(found) > before:
        before = len(found)
        found |= {module for module, parent in enumerate(parents) if parent in found}
    return found


DIAGNOSIS = Diagnosis(
    code="ddp-bypassed",
    title="a module is trained past the DistributedDataParallel around it",
    severity="warning",
    explanation=Explanation(
        meaning="""A module was wrapped in DistributedDataParallel, and training calls the module inside
            (model.module(x)), never the wrapper. Each process then trains a model of its own.""",
        reason="""DDP averages gradients through hooks that its own forward prepares. A call of the module inside
            does not pass there; nothing raises, and the processes part silently.""",
        remedy="""Call the wrapper: model(x). model.module is for what needs no gradients: state_dict(), attributes,
            evaluation.""",
    ),
    example=Example(
        shows="""\
import torch
import torch.distributed as dist
from torch import nn

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
model = nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
loss = model.module(torch.ones(1, 2)).sum()
loss.backward()
del model, loss
dist.destroy_process_group()
""",
        instead_of="loss = model.module(torch.ones(1, 2)).sum()",
        silent="loss = model(torch.ones(1, 2)).sum()",
    ),
    find=_find,
)

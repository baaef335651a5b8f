"""Layers that are one layer several times: ``nn.ModuleList([block] * depth)``, ``[block for _ in range(depth)]``."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence
from gradscope.frames.modules.repeated_items import repeated_item
from gradscope.recording.rows import EventKind


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that repeats one module, about the last such list."""
    index = sources.index
    last: dict[tuple[int, int], Finding] = {}
    for event in sources.events.of(EventKind.REPEATED_MODULE):
        span = index.recording.spans[event.span] if event.span >= 0 else None
        repeated = None if span is None else repeated_item(index.recording.files[span.file].text, span.line)
        if span is None or repeated is None or not event.tensors or not index.op_count:
            continue
        detail = event.detail
        last[span.file, repeated.line] = sources.finding(
            f"Line {index.line(span.file, repeated.line)}: {repeated.written} puts one {detail.get('module')} into the "
            f"{detail.get('list')} {detail.get('times')} times, so that its layers are one set of weights",
            op=min(event.op, index.op_count - 1),
            tensors=event.tensors,
            causes=[
                sources.cause_of_line(
                    "made", span.file, repeated.line, repeated.end_line, index.recording.text(span.function)
                )
            ],
            evidence=[Evidence("events", event.row)],
            advice="Make one in each round of a loop: [… for _ in range(n)].",
        )
    yield from last.values()


DIAGNOSIS = Diagnosis(
    code="repeated-module",
    title="a list of layers that is one layer several times",
    severity="warning",
    explanation=Explanation(
        meaning="""An nn.ModuleList, nn.Sequential or another module was given one module with parameters several times:
            by a list of one item times a number, a comprehension whose item is always the same, append() or
            add_module() in a loop.""",
        reason="""[block] * depth and [block for _ in range(depth)] make a list with depth references to the one block.
            Its weights are used in every layer, get the sum of all their gradients, and are counted once.""",
        remedy="""Make a block for each layer: nn.ModuleList([Block() for _ in range(depth)]), or copy.deepcopy(block).
            Where sharing is meant, loop over the one block, or call it shared.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

layers = nn.Sequential(*[nn.Linear(3, 3)] * 4)
layers(torch.ones(2, 3)).sum().backward()
""",
        instead_of="layers = nn.Sequential(*[nn.Linear(3, 3)] * 4)",
        silent="layers = nn.Sequential(*[nn.Linear(3, 3) for _ in range(4)])",
    ),
    find=_find,
)

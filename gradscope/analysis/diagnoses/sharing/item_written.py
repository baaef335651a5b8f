"""Items of a data set that are written in place: each time that one is read, the stored data changes."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.written_items import WrittenItem, written_items
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that reads an item."""
    index = sources.index
    by_read: dict[int, list[WrittenItem]] = {}
    for item in written_items(index):
        by_read.setdefault(index.op_statement[item.read], []).append(item)
    for items in by_read.values():
        first = items[0]
        lines = sorted({index.op_line(item.write) for item in items})
        shown = f"Line {lines[0]}" if len(lines) == 1 else f"Lines {', '.join(map(str, lines[:-1]))} and {lines[-1]}"
        yield sources.finding(
            f"{shown}: {index.call_name(first.write)} writes in place what line {index.op_line(first.read)} reads from "
            f"{sources.names.at(first.base, first.read)}, a view of it: one place was written {first.times:,} times, "
            "and each reading gives what the one before left",
            op=first.write,
            tensors=[first.base],
            causes=[
                *(cause for item in items for cause in sources.cause("write", item.write)),
                *sources.cause("made", first.read),
            ],
            evidence=[Evidence("ops", first.read)],
            advice="Compute a new tensor there (x = x * gain), or read a copy: .clone().",
        )


DIAGNOSIS = Diagnosis(
    code="item-written",
    title="items of a data set that are changed in place",
    severity="warning",
    explanation=Explanation(
        meaning="""A __getitem__ took an item out of a tensor that it keeps, and the item was then written in place, by
            a transform or an augmentation. The same place was read and written again later.""",
        reason="""self.x[i] with a whole number or a slice is a view: it has the memory of self.x. What is written into
            it is written into the data that is kept, epoch after epoch.""",
        remedy="""Write the transform out of place (x = x * gain), or give it a copy: self.x[i].clone().""",
    ),
    example=Example(
        shows="""\
import torch

class Signals(torch.utils.data.Dataset):
    def __init__(self):
        self.x = torch.ones(4, 3)

    def __len__(self):
        return 4

    def __getitem__(self, i):
        x = self.x[i]
        x.add_(0.1)
        return x

data = Signals()
for epoch in range(3):
    total = sum(data[i].sum() for i in range(4))
""",
        instead_of="x = self.x[i]",
        silent="x = self.x[i].clone()",
    ),
    find=_find,
)

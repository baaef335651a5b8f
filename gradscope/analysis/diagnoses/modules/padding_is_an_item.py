"""An embedding whose padding index is an item like the others: its row gets no gradient."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.padding_items import padding_items
from gradscope.analysis.report_model import Evidence

_ONE_MORE = re.compile(r"\+\s*[1-9]\b|\b[1-9]\s*\+")
"""A table with rows that are no items: the padding index is one of these."""


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in padding_items(index, sources.looks):
        causes = [*sources.cause("made", index.made_by(found.weight)), *sources.cause("used", found.op)]
        if not causes or _ONE_MORE.search(causes[0].source):
            continue
        where = (
            f", {found.inside:,} of them between others"
            if found.inside >= 0
            else ", and all rows of the table are looked up"
        )
        yield sources.finding(
            f"Line {causes[0].line}: the row of {sources.names.of(found.weight)} that padding_idx names never gets a "
            f"gradient, and it is looked up as often as the others are ({found.times:,} of {found.indices:,} look-ups"
            f"{where})",
            op=found.op,
            tensors=[found.weight],
            causes=causes,
            evidence=[Evidence("events", look.event) for look in found.looks],
            advice="Leave padding_idx out where it is an item like the others, or begin the items after it.",
        )


DIAGNOSIS = Diagnosis(
    code="padding-is-an-item",
    title="a padding index that is looked up like any other item",
    severity="warning",
    explanation=Explanation(
        meaning="""An embedding with a padding_idx was asked for that row as often as for others, and not at the ends of
            sequences, where padding stands; or, where there are no sequences, all rows of the table were looked up.
            Nothing else in the program told it from the others: no mask, no ignore_index, no comparison with it.""",
        reason="""padding_idx sets a row to zero when the embedding is made and leaves it out of the gradient. It stays
            what it was, for an item that has an index like the others, too: items that are counted from 0 on, where 0
            is the padding index.""",
        remedy="""Leave padding_idx out, or make the table one row larger and begin the items behind the padding.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

table, head = nn.Embedding(4, 3, padding_idx=0), nn.Linear(3, 1)
for step in range(3):
    head(table(torch.arange(32) % 4)).sum().backward()
""",
        instead_of="table, head = nn.Embedding(4, 3, padding_idx=0), nn.Linear(3, 1)",
        silent="table, head = nn.Embedding(4, 3), nn.Linear(3, 1)",
    ),
    find=_find,
)

"""An addition to rows that an index names several times: only one of those to each row counts."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.repeated_indices import repeated_indices, scattered_twice
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in repeated_indices(index):
        name, places = (sources.names.at(one, found.op) for one in (found.tensor, found.named_by))
        yield sources.finding(
            f"Line {index.op_line(found.op)}: {places} has {found.places:,} indices into the {found.rows:,} rows of "
            f"{name}, so some come several times, and of what is added to one row only the last one counts",
            why="the rows are read, changed and put back: the additions do not add up, and the others get no gradient",
            op=found.op,
            tensors=[found.tensor],
            causes=sources.cause("write", found.op),
            evidence=[Evidence("tensors", found.named_by)],
            advice=f"Use {name}.index_add_(0, {places}, …), or index_put_ with accumulate=True.",
        )
    for twice in scattered_twice(index, sources.passes):
        call = index.call_name(twice.op)
        yield sources.finding(
            f"Line {index.op_line(twice.op)}: {call} puts {twice.values:,} values to {twice.places:,} places by "
            f"{sources.names.at(twice.named_by, twice.op)}, so that some fall on others, of which one stays",
            why="backward gives each of them the gradient of its place, those that are gone, too",
            op=twice.op,
            tensors=[twice.named_by],
            causes=sources.cause("write", twice.op),
            advice="Add them up (scatter_add, index_add), or reduce them: scatter_reduce with 'mean' or 'amax'.",
        )


DIAGNOSIS = Diagnosis(
    code="repeated-index-write",
    title="an addition to rows that an index names several times",
    severity="warning",
    explanation=Explanation(
        meaning="""x[i] += y was run with more indices in i than x has rows. Some row is named twice at least. It is
            reported only where the numbers alone show this. Likewise a scatter (or index_copy) of more values than
            there are places along its dimension, of which a loss was computed.""",
        reason="""x[i] += y reads x[i], adds y to that copy, and puts the copy back. Of several values for one row
            the last one stays (on a GPU any of them), and gradients flow only through it.""",
        remedy="""x.index_add_(0, i, y), scatter_add_, or x.index_put_((i,), y, accumulate=True).""",
    ),
    example=Example(
        shows="""\
import torch

messages = torch.ones(6, 2, requires_grad=True)
nodes = torch.tensor([0, 1, 2, 0, 1, 2])
total = torch.zeros(3, 2)
total[nodes] += messages
total.sum().backward()
""",
        instead_of="total[nodes] += messages",
        silent="total.index_add_(0, nodes, messages)",
    ),
    find=_find,
)

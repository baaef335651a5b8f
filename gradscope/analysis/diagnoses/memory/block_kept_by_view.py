"""Small views that are kept, each with the whole memory block on which it lies."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.memory.graph_kept_after_pass import lines_that_keep
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory.keepers import keeper
from gradscope.analysis.facts.memory.kept_array_parts import kept_array_parts
from gradscope.analysis.facts.memory.kept_views import KeptViews, kept_views
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.sizes import size
from gradscope.frames.names.given_names import function_around


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement whose views pile up."""
    index = sources.index
    made_at, on = (index.recording.tensors.column(name) for name in ("op", "storage"))
    for kept in kept_views(index, sources.sharing, sources.passes):
        view = kept.views[-1]
        op, count = made_at[view], len(kept.views)
        puts = _puts_beside(sources, kept)
        by = f", and put away by line {puts[0].line}," if puts else ""
        yield sources.finding(
            f"Line {index.op_line(op)}: {count} views made by {index.call_name(op)}{by} show {size(kept.shown)} and "
            f"keep {size(kept.held)} alive",
            why="each is a small part of a memory block that nothing else needs any more",
            op=op,
            tensors=[view],
            causes=[*sources.cause("made", op), *puts],
            evidence=[Evidence("storages", on[one]) for one in kept.views],
            advice="clone() of what is kept lets go of the rest.",
        )
    for part in kept_array_parts(index, sources.sharing, sources.events):
        yield sources.finding(
            f"Line {index.op_line(part.op)}: {'parts of ' * part.are_sliced}{part.arrays} arrays of "
            f"{index.call_name(part.op)} show "
            f"{size(part.shown)} and keep {size(part.held)} alive",
            why="each holds all of a tensor's memory, which nothing else needs any more",
            op=part.op,
            tensors=[part.tensor],
            causes=sources.cause("made", part.op),
            evidence=[Evidence("events", part.event)],
            advice="copy() of what is kept lets go of the rest.",
        )


def _puts_beside(sources: Sources, kept: KeptViews) -> list[Cause]:
    """The line that puts the views where they stay, if another one of the function that makes them does."""
    index, op = sources.index, sources.index.recording.tensors.column("op")[kept.views[-1]]
    found, statement = keeper(index, kept.views, sources.names_held), index.statements[index.op_statement[op]]
    if found is None or found.file != statement.file or statement.line <= found.put.line <= statement.end_line:
        return []
    text = index.recording.files[statement.file].text
    is_beside = function_around(text, found.put.line) == function_around(text, statement.line)
    return lines_that_keep(sources, found)[:is_beside]


DIAGNOSIS = Diagnosis(
    code="block-kept-by-view",
    title="small views that keep large memory blocks alive",
    severity="warning",
    explanation=Explanation(
        meaning="""Views that one line makes are kept, in a list for instance. Each shows a small part of a memory
            block of its own, which nothing else uses any more: the whole block stays for it.""",
        reason="""A slice, an index by a number, view, expand or detach makes no copy. Memory is freed when the last
            tensor on it is gone, whatever part of it that tensor shows.""",
        remedy="""Copy what is kept: rows.append(tokens[:, 0].clone()). A view costs nothing where its base is kept
            anyway.""",
    ),
    example=Example(
        shows="""\
import torch

rows = []
for step in range(8):
    tokens = torch.ones(4, 100, 16) * step
    rows.append(tokens[:, 0])
print(torch.cat(rows).sum())
""",
        instead_of="rows.append(tokens[:, 0])",
        silent="rows.append(tokens[:, 0].clone())",
    ),
    find=_find,
)

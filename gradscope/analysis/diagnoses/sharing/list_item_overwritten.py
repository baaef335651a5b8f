"""A result that a loop put into a list and then wrote in place, so that the list's item changed as well."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.overwritten_items import OverwrittenItem, OverwrittenItems
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that writes, where autograd raised nothing of it."""
    index = sources.index
    raised = {index.op_statement[one.op] for one in sources.writes.judged if one.effect.effect == "raised"}
    for item in OverwrittenItems(index, sources.passes, sources.sharing, sources.names_held).found():
        if index.op_statement[item.written] not in raised:
            yield _finding(sources, item)


def _finding(sources: Sources, item: OverwrittenItem) -> Finding:
    index = sources.index
    put, name = index.line(item.file, item.put.line), item.name
    often = f" ({item.times:,} times)" if item.times > 1 else ""
    return sources.finding(
        f"Line {index.op_line(item.written)}: {index.call_name(item.written)} writes {name} in place after line {put} "
        f"has put it into {item.put.holder}{often}",
        why=f"the list has {name} itself, so that {index.call_name(item.read)} took the new values from it",
        op=item.written,
        tensors=[item.tensor],
        causes=[
            *sources.cause("write", item.written),
            sources.cause_of_line("made", item.file, item.put.line, item.put.end_line, item.put.function),
        ],
        evidence=[Evidence("ops", item.read)],
        advice="Make a new tensor instead of writing in place (torch.where, a product), or put a clone() there.",
    )


DIAGNOSIS = Diagnosis(
    code="list-item-overwritten",
    title="a result in a list that the next round of the loop wrote in place",
    severity="warning",
    explanation=Explanation(
        meaning="""A loop put a result into a list. Before the loop gave the name another tensor, it wrote the result in
            place, so that the item of the list was changed too; the list was read afterwards, and a backward pass went
            through it.""",
        reason="""append() keeps the tensor and not its values. A reset of the state for the next step
            (hidden[done] = 0) is one of the last step's output as well. Autograd raises nothing where no operation had
            saved those values.""",
        remedy="""Make a new state: hidden = torch.where(done, torch.zeros_like(hidden), hidden), or
            hidden = hidden * keep. Or put hidden.clone() into the list.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 3)
hidden, outs = torch.zeros(2, 3), []
for step in range(4):
    if step == 2:
        hidden[0] = 0
    hidden = layer(hidden)
    outs.append(hidden)
torch.stack(outs).sum().backward()
""",
        instead_of="outs.append(hidden)",
        silent="outs.append(hidden.clone())",
    ),
    find=_find,
)

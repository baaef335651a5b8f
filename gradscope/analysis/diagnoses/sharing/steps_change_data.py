"""A parameter that was made on the memory of data, which the steps of an optimizer change with it."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.stepped_data import SteppedData, stepped_data
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.facts.reaching.wrapped_parameters import WrappedParameters
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.modules.pretrained_embeddings import pretrained_embeddings
from gradscope.recording.flags import EXTERNAL


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that makes such a parameter."""
    index, said = sources.index, set[tuple[str, int]]()
    optimizers = seen_optimizers(index, sources.events)
    for found in stepped_data(index, sources.lives, sources.sharing, optimizers):
        if found.is_stepped_with and WrappedParameters(index).at(found.other) is not None:
            continue  # (two that one wrapped, and one optimizer steps, are said to be tied)
        made = [cause for leaf in (found.other, found.leaf) if leaf >= 0 for cause in _made(sources, leaf)]
        if found.is_later and len({cause.line for cause in made}) > 1:
            continue  # (another line may make it of what was trained, to go on from there)
        if made and (made[0].file, made[0].line) not in said:
            said.add((made[0].file, made[0].line))
            yield _finding(sources, found, made)


def _made(sources: Sources, leaf: int) -> list[Cause]:
    """The line that made a parameter of data; nothing where none is known to."""
    index, recording = sources.index, sources.index.recording
    if not recording.tensors.column("flags")[leaf] & EXTERNAL:
        return sources.cause("made", recording.tensors.column("op")[leaf])
    if (wrap := WrappedParameters(index).at(leaf)) is not None:
        return sources.causes_at("made", [wrap.at])
    names = (recording.text(name).split(".") for name, *_ in sources.names_held.get(leaf, ()))
    holders = {parts[-2] for parts in names if len(parts) > 1}
    made = [
        (number, one)
        for number, file in enumerate(recording.files)
        for one in (pretrained_embeddings(file.text) if file.is_user else ())
        if not one.attributes or one.attributes & holders
    ]
    if len(made) != 1:
        return []
    ((number, one),) = made
    return [sources.cause_of_line("made", number, one.line, one.end_line, "")]


def _finding(sources: Sources, found: SteppedData, causes: list[Cause]) -> Finding:
    index = sources.index
    leaf, data = sources.names.of(found.leaf), sources.names.of(found.data)
    changed, tensors = f"changed {data} too", [found.leaf, found.data]
    if found.other >= 0:
        other, tensors = sources.names.of(found.other), [found.leaf, found.other]
        changed = f"changed {other} too, which was made of it as well"
        if found.is_later:
            changed = f"changed {data} too, of which {'another one' if other == leaf else other} was made afterwards"
    return sources.finding(
        f"Line {causes[-1].line}: {leaf} is made on the memory of {data}, without a copy",
        why=f"{index.times(found.steps):,} steps of {leaf} {changed}, and {index.call_name(found.read)} reads that",
        op=found.read,
        tensors=tensors,
        causes=causes,
        evidence=[Evidence("ops", found.steps[-1])],
        advice="clone() what the parameter is made of.",
    )


DIAGNOSIS = Diagnosis(
    code="steps-change-data",
    title="a parameter on the memory of data, which its steps change",
    severity="warning",
    explanation=Explanation(
        meaning="""A parameter was made of a tensor without a copy. An optimizer's steps then changed that tensor as
            well, and the program read it as if it were as before: as the data that it trains on, as what the parameter
            began with, or as the values of another parameter that was made of it.""",
        reason="""nn.Parameter(x), a slice of x, detach() and nn.Embedding.from_pretrained(x) lie on the memory of x.
            An optimizer writes its steps there.""",
        remedy="""nn.Parameter(x[:k].clone()), nn.Embedding.from_pretrained(x.clone(), freeze=False). Where two modules
            are to share one weight, give both the one parameter.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

points = torch.randn(20, 2)
centers = nn.Parameter(points[:3])
optimizer = torch.optim.SGD([centers], lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    torch.cdist(points, centers).sum().backward()
    optimizer.step()
""",
        instead_of="centers = nn.Parameter(points[:3])",
        silent="centers = nn.Parameter(points[:3].clone())",
    ),
    find=_find,
)

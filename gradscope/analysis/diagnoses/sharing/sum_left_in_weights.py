"""An average over models that is begun with the tensors of one of them: the sum is made up in its weights."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.sums_in_weights import SumInWeights, sums_in_weights
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.names.begun_as import begun_as


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that adds."""
    index, made_at = sources.index, sources.index.recording.tensors.column("op")
    found: dict[int, list[SumInWeights]] = {}
    for one in sums_in_weights(index, sources.events):
        found.setdefault(index.op_statement[one.added], []).append(one)
    for sums in found.values():
        first = sums[0]
        taken = made_at[first.taken]
        names = sources.listed([sources.names.of(one.parameter) for one in sums])
        begun = _begun(sources, first.added)
        where = f"Line {begun[0].line}: what" if begun else f"Line {index.op_line(taken)}:"
        yield sources.finding(
            f"{where} {index.call_name(taken)} gave {'is ' if begun else ''}{names} without a copy, and line "
            f"{index.op_line(first.added)} adds the weights of other models to them in place",
            why="the average was loaded into another model, and the one that they belong to goes on with it too, where "
            "the others go on with their own"
            if first.is_average
            else "only a new tensor becomes the average; the model that they belong to goes on with the sum",
            op=first.added,
            tensors=[one.parameter for one in sums],
            causes=[*(begun or sources.cause("made", taken)), *sources.cause("write", first.added)],
            evidence=[Evidence("ops", op) for op in (first.scaled, first.read)],
            advice="Begin the sum with a copy: copy.deepcopy(state), or clone() of each tensor.",
        )


def _begun(sources: Sources, added: int) -> list[Cause]:
    """The statement that gave the tensors of a model the name by which the sum is made up."""
    index = sources.index
    row = index.statements[index.op_statement[added]]
    lines = begun_as(index.recording.files[row.file].text, row.line) if row.file >= 0 else None
    return [sources.cause_of_line("made", row.file, *lines, index.op_place(added).function)] if lines else []


DIAGNOSIS = Diagnosis(
    code="sum-left-in-weights",
    title="a sum over several models that is made up in the weights of one of them",
    severity="warning",
    explanation=Explanation(
        meaning="""The weights of models were added up in place, in tensors that lie on the memory of one model's
            parameters. The average was computed as a new tensor; the model computed with its parameters afterwards,
            and these held the sum. Or the sum was scaled in place and loaded into a further model: the first one goes
            on with the average, where the others have their own weights still.""",
        reason="""The tensors in state_dict(), and .data and detach() of a parameter, are on the parameter's own memory.
            average[key] += other[key] writes there; average[key] = average[key] / n gives the key another tensor.""",
        remedy="""Begin with a copy: average = copy.deepcopy(states[0]), or {key: value.clone() for …}. Or add out of
            place: average[key] = average[key] + other[key].""",
    ),
    example=Example(
        shows="""\
import torch

first, second = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
average, other = first.state_dict(), second.state_dict()
for key in average:
    average[key] += other[key]
    average[key] = average[key] / 2
print(first(torch.ones(1, 2)))
""",
        instead_of="average[key] += other[key]",
        silent="average[key] = average[key] + other[key]",
    ),
    find=_find,
)

"""An average of weights that is put into the model for an evaluation or a file, and that training goes on from."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.calls_beside_passes import called_beside, where_asked_for
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.averages_left import AveragesLeft, LeftAverage
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.blocks.early_exits import condition_of_last, early_exit
from gradscope.frames.calls.calls_beside import called_twice

_GOES_ON = (
    "the next steps go on from it: the training since the last time counts only as far as the average has followed"
)
_WHY = f"what was computed then is of the average, and {_GOES_ON}"
_STORED = f"what line {{line}} stored is the average, and {_GOES_ON}"


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters that calls of one line give their average."""
    index, alike = sources.index, dict[int, list[LeftAverage]]()
    # (what was to be put back is the memory that the average was written to: see snapshot-shares-memory)
    put_back = {tensor for one in sources.mixed_with_themselves for tensor in one.tensors}
    for one in AveragesLeft(index, sources.lives).found():
        if one.tensor in put_back:
            continue
        alike.setdefault(index.op_statement[one.puts[-1]], []).append(one)
    for group in alike.values():
        if group[0].restored_at >= 0:
            yield _not_always_restored(sources, group)
        else:
            yield _put_into_state(sources, group) if group[0].taken_at >= 0 else _never_restored(sources, group)


def _put_into_state(sources: Sources, group: list[LeftAverage]) -> Finding:
    """By the write and by what took the state: the program meant to write to something else than the model."""
    index, tensors, first = sources.index, [one.tensor for one in group], group[0]
    put, taken, names = first.puts[-1], first.taken_at, sources.listed([sources.names.of(tensor) for tensor in tensors])
    times = f" ({len(first.puts)} times)" if len(first.puts) > 1 else ""
    called = index.call_name(taken).removeprefix("nn.Module.")
    return sources.finding(
        f"Line {index.op_line(put)}: {index.call_name(put)} puts the running average of {names} in the place of the "
        f"trained values{times}, since what {called} of line {index.op_line(taken)} gives lies on their memory",
        why=f"nothing puts those back, and {_GOES_ON}",
        op=put,
        tensors=tensors,
        causes=[*sources.cause("write", put), *sources.cause("made", taken)],
        evidence=[Evidence("ops", taken), *_evidence(group)],
        advice="Clone what is taken before it is written to, or put the averages there as they are, without copying.",
    )


def _never_restored(sources: Sources, group: list[LeftAverage]) -> Finding:
    index, tensors, last = sources.index, [one.tensor for one in group], group[0].puts[-1]
    names, times = sources.listed([sources.names.of(tensor) for tensor in tensors]), len(group[0].puts)
    stored = group[0].stored_at
    puts, causes = where_asked_for(sources, "write", last, stored if stored >= 0 else group[0].evaluated_at)
    line = causes[0].line if causes else index.op_line(last)
    return sources.finding(
        f"Line {line}: {puts} puts the running average of {names} in the place of "
        f"the trained values{f' ({times} times)' if times > 1 else ''}, and nothing puts those back",
        why=_why(sources, stored),
        op=last,
        tensors=tensors,
        causes=causes,
        evidence=_evidence(group),
        advice="Keep a copy of the trained values and put it back afterwards, or use a second model for the average.",
    )


def _not_always_restored(sources: Sources, group: list[LeftAverage]) -> Finding:
    """By the statement that leaves before the line that restores them, or by the condition under which it runs."""
    index, tensors, last = sources.index, [one.tensor for one in group], group[0].puts[-1]
    names, times = sources.listed([sources.names.of(tensor) for tensor in tensors]), len(group[0].puts)
    put, back = _put_and_back(sources, last, group[0].restored_at)
    left = f"the running average of {names} stays in the place of the trained values ({_times(times)})"
    file = index.statements[index.op_statement[last]].file
    text, causes = index.recording.files[file].text if file >= 0 else "", [back] if back is not None else []
    symptom = f"Line {index.op_line(last)}: {left}, though it is replaced at other times"
    if put is not None and back is not None and put.file == back.file:
        leaves = early_exit(text, int(put.line), int(back.line))
        condition = condition_of_last(text, int(put.line), int(back.line))
        if leaves is not None:
            causes = [sources.cause_of_line("used", file, leaves.line, leaves.end_line, put.function), back]
            symptom = f"Line {index.line(file, leaves.line)}: after this {leaves.word} {left}"
            symptom += f", since line {back.line}, which puts those back, does not run"
        elif condition:
            causes = [back, sources.cause_of_line("used", file, condition, condition, put.function)]
            symptom = f"Line {back.line}: the trained values are put back under the condition of line {condition} only"
            symptom += f"; else {left}"
    return sources.finding(
        symptom,
        why=_why(sources, group[0].stored_at),
        op=last,
        tensors=tensors,
        causes=causes or sources.cause("write", last),
        evidence=[*_evidence(group), Evidence("ops", group[0].restored_at)],
        advice="Put the trained values back on every way out: in a finally, or before the condition.",
    )


def _put_and_back(sources: Sources, put: int, back: int) -> tuple[Cause | None, Cause | None]:
    """The lines by which the function that reaches two ops reaches each; of one line, its two calls in their order."""
    index = sources.index
    line, file = int(index.op_line(put)), index.statements[index.op_statement[put]].file
    if index.op_statement[put] != index.op_statement[back]:
        return _line_beside(sources, put, back), _line_beside(sources, back, put)
    calls = called_twice(index.recording.files[file].text, line) if file >= 0 else None
    if calls is None:
        return None, None
    first, last = (sources.cause_of_line("write", file, call.line, call.end_line, "") for call in calls)
    return first, last


def _line_beside(sources: Sources, op: int, other: int) -> Cause | None:
    """The line by which the function that reaches two ops reaches the first."""
    called = called_beside(sources, "write", op, other)
    return called[1] if called is not None else next(iter(sources.cause("write", op)), None)


def _why(sources: Sources, stored: int) -> str:
    return _STORED.format(line=sources.index.op_line(stored)) if stored >= 0 else _WHY


def _times(times: int) -> str:
    return "once" if times == 1 else f"{times} times"


def _evidence(group: list[LeftAverage]) -> list[Evidence]:
    return [Evidence("ops", op) for one in group for op in (*one.puts[-2:], one.evaluated_at, one.stored_at) if op >= 0]


DIAGNOSIS = Diagnosis(
    code="average-left-in-model",
    title="training goes on from the average that was put into the model for an evaluation",
    severity="warning",
    explanation=Explanation(
        meaning="""A running average of the weights was copied into the very parameters that train, the model was run
            without a graph or its state was stored, and the next pass and step went on with no other values put back:
            never, or not each time, where a return or a condition stands before what restores them. Or it was copied
            into a state that was taken of the model without a copy and goes into a file.""",
        reason="""copy_, load_state_dict and x.data = … change the parameters themselves. An average lags behind what
            the steps made, so each evaluation throws training back, and the optimizer's moments belong to other
            weights.""",
        remedy="""Store the trained values before (a clone, or a deepcopy of the state_dict) and restore them after
            the evaluation, or keep the average in a second model and evaluate that. The slow weights of Lookahead,
            which are mixed with the others once before they take their place, are not reported.""",
    ),
    example=Example(
        shows="""\
import copy
import torch

layer = torch.nn.Linear(3, 1)
mean = copy.deepcopy(layer)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for epoch in range(2):
    for step in range(3):
        optimizer.zero_grad()
        layer(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        with torch.no_grad():
            for average, weight in zip(mean.parameters(), layer.parameters()):
                average.lerp_(weight, 0.1)
    trained = copy.deepcopy(layer.state_dict())
    layer.load_state_dict(mean.state_dict())
    with torch.no_grad():
        print(layer(torch.ones(2, 3)))
    print("evaluated")
""",
        instead_of='print("evaluated")',
        silent="layer.load_state_dict(trained)",
    ),
    find=_find,
)

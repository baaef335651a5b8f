"""A state, or a vector, that became the parameters themselves, and was used again when steps had changed it."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.assigned_states import AssignedState, assigned_states
from gradscope.analysis.facts.memory_writes.put_on_trained import SETS, PutOnTrained
from gradscope.analysis.facts.memory_writes.trained_away import TrainedAway, trained_away
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that loads."""
    alike: dict[int, list[AssignedState]] = {}
    for one in assigned_states(sources.index):
        alike.setdefault(sources.index.op_statement[one.load], []).append(one)
    for same in alike.values():
        yield _finding(sources, same)
    live: dict[int, list[PutOnTrained]] = {}
    for put in sources.put_on_trained:
        if sources.index.func(put.op) not in SETS and sources.index.op_statement[put.op] not in alike:
            live.setdefault(sources.index.op_statement[put.op], []).append(put)
    for group in live.values():
        yield _of_trained(sources, group)
    put_back: dict[int, list[TrainedAway]] = {}
    for kept in trained_away(sources.index, sources.lives, sources.sharing, sources.names_held):
        put_back.setdefault(sources.index.op_statement[kept.op], []).append(kept)
    for several in put_back.values():
        yield _of_kept(sources, several)


def _finding(sources: Sources, same: list[AssignedState]) -> Finding:
    index, names = sources.index, sources.names
    shown = max(same, key=lambda one: len(one.parameters))
    own = sources.listed(list(dict.fromkeys(names.of(one.parameters[0]) for one in same)))
    line = index.op_line(shown.load)
    what = f"Line {line}: load_state_dict(assign=True) copies nothing, {own} and the loaded state are one memory"
    step = index.call_name(shown.step)
    if shown.read < 0:
        why = (
            f"{len(shown.parameters)} modules' parameters were put on it, and {step} of one changes those of all, and "
            "the state that is loaded next"
        )
    else:
        why = f"{step} changed the state as well, and {index.call_name(shown.read)} took both as if they were two"
    return sources.finding(
        what,
        why=why,
        op=shown.load,
        tensors=[parameter for one in same for parameter in one.parameters],
        causes=sources.cause("set", shown.load),
        evidence=[Evidence("ops", shown.step)],
        advice="Without assign=True the values are copied; with it, load copy.deepcopy of the state.",
    )


def _of_trained(sources: Sources, group: list[PutOnTrained]) -> Finding:
    """The state of a network that is trained, loaded into one that is to stay behind it."""
    index, names, load = sources.index, sources.names, group[-1].op
    put, of = (
        sources.listed(list(dict.fromkeys(map(names.of, some))))
        for some in ([one.put for one in group], [one.trained for one in group])
    )
    steps = max(one.steps for one in group)
    return sources.finding(
        f"Line {index.op_line(load)}: load_state_dict(assign=True) copies nothing, {put} and {of} are one memory",
        why=f"state_dict() gives the parameters themselves, and {steps:,} steps changed both since",
        op=load,
        tensors=[tensor for one in group for tensor in (one.put, one.trained)],
        causes=sources.cause("set", load),
        evidence=[Evidence("ops", one.used) for one in group[-1:]],
        advice="Without assign=True the values are copied; with it, load copy.deepcopy of the state.",
    )


def _of_kept(sources: Sources, several: list[TrainedAway]) -> Finding:
    """Values that one statement put under parameters, and that were used again when these had been stepped."""
    index, names, first = sources.index, sources.names, several[0]
    own = sources.listed(list(dict.fromkeys(names.of(one.parameter) for one in several)))
    values = list(dict.fromkeys(_named(sources, one.values) for one in several))
    kept = sources.listed(values) if all(values) else "what it is given"
    how = "vector_to_parameters" if index.func(first.op).endswith("vector_to_parameters") else ".data = …"
    how = "set_()" if index.func(first.op) == "Tensor.set_" else how
    steps = f"{index.times(first.steps):,} steps changed both"
    if first.again == first.parameter:
        why = f"{steps}, and putting it back {'changed nothing' if first.was_there else 'gave what it had become'}"
    elif first.again >= 0:
        why = f"{steps} before it was put under {names.of(first.again)} as well"
    else:
        why = f"{steps}, and {index.call_name(first.read)} took them as if they were two"
    return sources.finding(
        f"Line {index.op_line(first.op)}: {how} copies nothing, {own} and {kept} are one memory",
        why=why,
        op=first.op,
        tensors=[one.parameter for one in several],
        causes=sources.cause("set", first.op),
        evidence=[Evidence("ops", op) for op in (first.steps[-1], first.read)],
        advice="Put a copy there: clone() of the values, or copy_() under torch.no_grad().",
    )


def _named(sources: Sources, values: tuple[int, ...]) -> str:
    """The name of values, or of what they are a part of; empty where none was seen."""
    for tensor in values:
        while tensor >= 0:
            if sources.names.is_named(tensor):
                return sources.names.of(tensor)
            tensor = sources.sharing.base_of(tensor)
    return ""


DIAGNOSIS = Diagnosis(
    code="loaded-without-copy",
    title="a loaded state that the training changes",
    severity="warning",
    explanation=Explanation(
        meaning="""load_state_dict(state, assign=True), vector_to_parameters(vector, …) or p.data = value was called, an
            optimizer stepped the parameters, and the values, which had been kept, were used again: put back, put into
            another module, or compared, as if they had stayed. Or the state was that of the network that is trained,
            and was loaded into one that is to stay behind it.""",
        reason="""None of these copies: the parameters lie on the memory of what they are given. All modules that are
            loaded so from one state are one set of weights; each step changes the state, too.""",
        remedy="""Give it a copy: vector.clone(), copy.deepcopy(state), or leave assign out. What is loaded once, as
            from a file, needs none.""",
    ),
    example=Example(
        shows="""\
import torch

state = {name: value.clone() for name, value in torch.nn.Linear(3, 1).state_dict().items()}
for fold in range(2):
    net = torch.nn.Linear(3, 1)
    net.load_state_dict(state, assign=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
""",
        instead_of="net.load_state_dict(state, assign=True)",
        silent="net.load_state_dict(state)",
    ),
    find=_find,
)

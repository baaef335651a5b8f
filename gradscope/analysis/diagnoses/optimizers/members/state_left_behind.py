"""An optimizer's state that is looked up under what is no parameter, so that a new parameter begins without one."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.program.states_begun_anew import states_begun_anew
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each look-up."""
    index = sources.index
    for one in states_begun_anew(index, sources.flow, sources.events):
        key, names = one.key, sources.listed([sources.names.of(tensor) for tensor in one.tensors])
        yield sources.finding(
            f"Line {index.line(one.file, key.line)}: {key.called} finds no state under {key.key}, which is {key.what}",
            why="the state belongs to the old parameter, the very tensor: what it had gathered in "
            f"{index.times(one.taken):,} steps is left behind, and line {index.op_line(one.step)} "
            f"({index.call_name(one.step)}) began with new moments for {names}",
            op=one.step,
            tensors=one.tensors,
            causes=[sources.cause_of_line("used", one.file, key.line, key.end_line, key.function)],
            evidence=[Evidence("ops", one.taken[-1]), Evidence("ops", one.step)],
            advice="Look it up under the parameter that the group has, before that is replaced.",
        )


DIAGNOSIS = Diagnosis(
    code="state-left-behind",
    title="an optimizer's state that is looked up under a wrong key",
    severity="warning",
    explanation=Explanation(
        meaning="""A parameter in an optimizer's groups was replaced by one that was computed from it (rows added, or
            removed). The function that does so looks up the state in order to hand it on, but under a number, a name,
            the new parameter or another tensor on the memory of the old one. The next step made new moments for the new
            parameter.""",
        reason="""optimizer.state is a dict whose keys are the parameters themselves, the objects. The numbers that
            state_dict() has are made up for the file. pop(key, {}) and get(key) say nothing where there is no such key,
            and a step gives a parameter without state a new one.""",
        remedy="""old = group["params"][0]; state = optimizer.state.pop(old, None). Change the tensors in it as the
            parameter was changed, and put it under the new one: optimizer.state[new] = state.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.Adam([w], lr=0.1)

def grow(optimizer):
    for number, group in enumerate(optimizer.param_groups):
        old = group["params"][0]
        new = torch.nn.Parameter(torch.cat([old.detach(), torch.ones(1)]))
        state = optimizer.state.pop(number, None)
        if state is not None:
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.cat([state[name], torch.zeros(1)])
            optimizer.state[new] = state
        group["params"][0] = new
    return new

for round in range(2):
    for step in range(3):
        optimizer.zero_grad()
        w.pow(2).sum().backward()
        optimizer.step()
    w = grow(optimizer)
""",
        instead_of="state = optimizer.state.pop(number, None)",
        silent="state = optimizer.state.pop(old, None)",
    ),
    find=_find,
)

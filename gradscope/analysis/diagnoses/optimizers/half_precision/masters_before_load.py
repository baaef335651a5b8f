"""Loaded weights that copies of the weights as they were before take the place of at the first step."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.calls_beside_passes import where_asked_for
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.masters_before_loads import MasterBeforeLoad, MastersBeforeLoads
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters into which one line loaded values."""
    index, alike = sources.index, dict[int, list[MasterBeforeLoad]]()
    for one in MastersBeforeLoads(index, sources.lives).found():
        alike.setdefault(index.op_statement[one.load], []).append(one)
    for group in alike.values():
        first = group[0]
        names = sources.listed([sources.names.of(one.tensor) for one in group])
        loads, causes = where_asked_for(sources, "write", first.load, first.step)
        line = causes[0].line if causes else index.op_line(first.load)
        puts = f"line {index.op_line(first.back)} ({index.call_name(first.back)}) puts"
        yield sources.finding(
            f"Line {line}: what {loads} loads into {names} is gone after the first step",
            why=f"the optimizer steps copies that line {index.op_line(first.copied)} had made of the values before, "
            f"and {puts} those in the place of what was loaded",
            op=first.back,
            tensors=[one.tensor for one in group],
            causes=[*causes, *sources.cause("made", first.copied), *sources.cause("write", first.back)],
            evidence=[Evidence("ops", op) for one in group for op in (one.copied, one.load, one.step, one.back)],
            advice="Load before the copies are made, or copy the loaded values into them as well.",
        )


DIAGNOSIS = Diagnosis(
    code="masters-before-load",
    title="loaded weights that copies made before the load take the place of",
    severity="warning",
    explanation=Explanation(
        meaning="""An optimizer steps copies of the parameters (masters in float32, say), by gradients that are handed
            to them, and the result is copied back into the parameters. Between the making of the copies and their
            first step other values were loaded into the parameters, and passes used those; the copies still held what
            was there before.""",
        reason="""load_state_dict() and copy_() write into the parameters alone; nobody tells the copies. The first pass
            is for the loaded weights, the first step for the old ones, and these are what the training goes on with.
        """,
        remedy="""Load first and make the optimizer after that, or refresh the copies behind each load: for master, p in
            zip(masters, params): master.copy_(p). What is loaded after a step of the copies is not looked at.""",
    ),
    example=Example(
        shows="""\
import torch

trained, net = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)
masters = [p.detach().clone() for p in net.parameters()]
optimizer = torch.optim.SGD(masters, lr=0.1)
net.load_state_dict(trained.state_dict())
print("loaded")
net(torch.ones(2, 3)).sum().backward()
for master, p in zip(masters, net.parameters()):
    master.grad = p.grad
optimizer.step()
with torch.no_grad():
    for master, p in zip(masters, net.parameters()):
        p.copy_(master)
""",
        instead_of='print("loaded")',
        silent="[master.copy_(p.detach()) for master, p in zip(masters, net.parameters())]",
    ),
    find=_find,
)

"""A statistic that a module keeps as a plain tensor: a state that is loaded has none of it."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.unsaved_statistics import left_out_of_state
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for one in left_out_of_state(index, sources.names_held):
        statistic, line = one.statistic, index.line(one.file, one.statistic.made[0])
        yield sources.finding(
            f"Line {line}: {statistic.owner} keeps {statistic.name} as a plain tensor, which state_dict() leaves out: "
            f"the module that a state was loaded into computes with the {statistic.name} that its constructor made, "
            "though the one that was trained had updated its own",
            op=one.used,
            tensors=[one.tensor],
            causes=[sources.cause_of_line("made", one.file, *statistic.made, f"{statistic.owner}.__init__")],
            evidence=[Evidence("ops", op) for op in (one.load, one.updates[-1])],
            advice=f'self.register_buffer("{statistic.name}", …) makes it a part of the state; write into it then, or '
            "assign to it as before.",
        )


DIAGNOSIS = Diagnosis(
    code="left-out-of-state",
    title="a statistic of a module that is no part of its state",
    severity="warning",
    explanation=Explanation(
        meaning="""A module updates an attribute of its own while it is trained: a running scale, mean or maximum. The
            attribute is a plain tensor. A state was loaded into another module of the class, which then computed with
            the value that its constructor had made, and never updated it.""",
        reason="""state_dict() has the parameters and the buffers of a module, and no other attributes: what is not
            registered is neither saved nor loaded, and no key is missing.""",
        remedy="""Register it: self.register_buffer("scale", torch.ones(n)). An assignment to self.scale replaces the
            buffer, as before.""",
    ),
    example=Example(
        shows="""\
import torch


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.ones(3)
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, x):
        if self.training:
            self.scale = 0.9 * self.scale + 0.1 * x.detach().std(0)
        return self.layer(x / self.scale)


net, again = Scaled(), Scaled().eval()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(5):
    optimizer.zero_grad()
    net(torch.randn(8, 3)).pow(2).mean().backward()
    optimizer.step()
again.load_state_dict(net.state_dict())
again(torch.randn(8, 3))
""",
        instead_of="self.scale = torch.ones(3)",
        silent='self.register_buffer("scale", torch.ones(3))',
    ),
    find=_find,
)

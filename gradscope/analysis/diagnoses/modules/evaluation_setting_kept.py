"""A number that a forward pass in evaluation puts into its module, and that the training goes on with."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.kept_settings import kept_settings
from gradscope.analysis.facts.modes.training_modes import TrainingModes
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each attribute."""
    index = sources.index
    for one in kept_settings(index, TrainingModes(sources.events)):
        setting, read, op = one.setting, index.op_line(one.trained[0]), one.trained[-1]
        begins, function = index.line(one.file, setting.written[0]), setting.function
        lines = dict.fromkeys((setting.written, setting.condition))
        yield sources.finding(
            f"Line {begins}: {setting.name} is {setting.value} from the first forward pass in evaluation on, and "
            f"line {read} reads it in training as well ({index.times(one.trained):,} times)",
            why="nothing sets it back",
            op=op,
            tensors=index.tensors_made(op)[:1],
            causes=[sources.cause_of_line("set", one.file, *where, function) for where in lines],
            evidence=[Evidence("events", one.mode.event.row), Evidence("ops", one.evaluated), Evidence("ops", op)],
            advice="Leave the attribute alone and choose between the two in a local variable.",
        )


DIAGNOSIS = Diagnosis(
    code="evaluation-setting-kept",
    title="a setting that an evaluation overwrites, and that training goes on with",
    severity="warning",
    explanation=Explanation(
        meaning="""A method that runs in each forward pass assigns a number to an attribute of its module when the
            module is in evaluation mode: if not self.training: self.dropout_p = 0.0. Nothing else assigns to that
            attribute but __init__. The method ran after eval(), and then again after train() in passes of the training,
            which read the attribute.""",
        reason="""An attribute keeps what it was given; the next forward pass in training begins with it. From the first
            evaluation on the dropout, momentum or noise of the training is that of the evaluation, without any error.
            """,
        remedy="""Choose in a local variable: dropout_p = self.dropout_p if self.training else 0.0.""",
    ),
    example=Example(
        shows="""\
import torch

class Noisy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.noise = 0.1
    def forward(self, x):
        scale = self.noise
        if not self.training:
            self.noise = 0.0
        hidden = self.layer(x)
        return hidden + self.noise * torch.randn_like(hidden)

net = Noisy()
for epoch in range(2):
    net.train()
    net(torch.ones(2, 3)).sum().backward()
    net.eval()
    with torch.no_grad():
        print(net(torch.ones(2, 3)).shape)
""",
        instead_of="self.noise = 0.0",
        silent="scale = 0.0",
    ),
    find=_find,
)

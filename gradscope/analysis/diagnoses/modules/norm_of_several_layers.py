"""A batch norm behind several layers, whose running statistics are those of all of them."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.norms_of_several_layers import norms_of_several_layers
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each norm."""
    index = sources.index
    for one in norms_of_several_layers(index):
        name = sources.names.of(one.weight).rpartition(".")[0] or "a batch norm"
        layers = sources.listed([sources.names.of(layer).rpartition(".")[0] or "a layer" for layer in one.layers])
        yield sources.finding(
            f"Line {index.op_line(one.second)}: {name}, one batch norm, runs behind {layers} in a row, and learns one "
            f"mean and variance from both ({one.rounds:,} times)",
            why="in training each run normalises by its own batch; in evaluation (line "
            f"{index.op_line(one.evaluated)}) both go by the mixture, which is that of neither",
            op=one.second,
            tensors=[one.weight],
            causes=[*sources.cause("used", one.second), *sources.cause("made", index.made_by(one.weight))],
            evidence=[Evidence("ops", one.first), Evidence("ops", one.evaluated)],
            advice="Make a batch norm for each layer.",
        )


DIAGNOSIS = Diagnosis(
    code="norm-of-several-layers",
    title="one batch norm behind several layers",
    severity="warning",
    explanation=Explanation(
        meaning="""A batch norm in training mode ran several times in one forward, behind different layers, the later
            run on what came of the earlier one, and was used in evaluation mode afterwards.""",
        reason="""Each run in training mode updates the running mean and variance. Those of two layers are mixed in
            them, so that eval() normalises the outputs of both by numbers that fit neither: the loss in evaluation is
            another one than in training.""",
        remedy="""self.norm1 and self.norm2. Activations without parameters may be shared, norms with running
            statistics may not.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

one, two, norm, other = nn.Linear(3, 4), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4)
parameters = [p for layer in (one, two, norm, other) for p in layer.parameters()]
optimizer = torch.optim.SGD(parameters, lr=0.1)
for step in range(4):
    h = norm(one(torch.randn(8, 3))).relu()
    h = norm(two(h))
    optimizer.zero_grad()
    h.pow(2).mean().backward()
    optimizer.step()
norm.eval()
print(norm(one(torch.ones(1, 3))))
""",
        instead_of="h = norm(two(h))",
        silent="h = other(two(h))",
    ),
    find=_find,
)

"""What a helper does to weights is named by the line that calls the helper, as far as the helper does nothing else."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

AVERAGE = """
import torch
from torch import nn
class Average:
    def __init__(self, model):
        self.kept = [p.detach().clone() for p in model.parameters()]
    @torch.no_grad()
    def update(self, model):
        for kept, p in zip(self.kept, model.parameters()):
            kept.lerp_(p, 0.1)
    @torch.no_grad()
    def apply(self, model):
        for kept, p in zip(self.kept, model.parameters()):
            p.copy_(kept)  # inside
        {after}
net = nn.Linear(3, 1)
average = Average(net)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
def validate():
    {validated}
    with torch.no_grad():
        return net(torch.rand(4, 3)).mean().item()
for epoch in range(3):
    for step in range(6):
        optimizer.zero_grad()
        net(torch.rand(4, 3)).pow(2).mean().backward()
        optimizer.step()
        average.update(net)
        {stepped}
    {ended}
    validate()
"""
PARTS = {"after": "pass", "validated": "pass", "stepped": "pass", "ended": "pass"}


def found(code: str, **parts: str) -> tuple[list[Answer], str]:
    source = AVERAGE
    for name, value in {**PARTS, **parts}.items():
        source = source.replace("{" + name + "}", value)
    return [one for one in build(recorded(source)).answers if one.code == code], source


@pytest.mark.parametrize(
    ("code", "part", "body"),
    [
        ("average-left-in-model", "ended", "average.apply(net)  # asks"),
        ("average-left-in-model", "validated", "average.apply(model=net)  # asks"),
        ("weights-overwritten", "stepped", "average.apply(net)  # asks"),
    ],
)
def test_the_call_is_the_cause(code: str, part: str, body: str) -> None:
    (answer,), source = found(code, **{part: body})
    assert [cause.line for cause in answer.causes] == [line_of(source, "# asks")]
    assert answer.text.startswith(f"Line {line_of(source, '# asks')}: average.apply ")
    assert f"ine {line_of(source, '# inside')}" not in answer.text


@pytest.mark.parametrize(
    ("after", "ended"),
    [
        ("with torch.no_grad(): return model(torch.rand(4, 3)).mean().item()", "average.apply(net)"),
        ("pass", "if epoch == 0: average.apply(net)\n    else: average.apply(net)"),
    ],
    ids=["a helper that goes on", "two calls"],
)
def test_the_line_inside_is_the_cause(after: str, ended: str) -> None:
    (answer,), source = found("average-left-in-model", after=after, ended=ended)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# inside")]

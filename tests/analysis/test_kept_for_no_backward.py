"""Forward hooks that keep tensors for a backward hook in calls without one, and those that do not."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from collections import defaultdict
class Recorder:
    def __init__(self, layer):
        self.seen, self.by_module, self.norms = [], defaultdict(list), []
        layer.register_forward_hook(self.capture)
        layer.register_full_backward_hook(self.gradients)
    def capture(self, module, inputs, output):
        KEEP
    def gradients(self, module, grad_input, grad_output):
        TAKE
layer = torch.nn.Linear(8, 1)
recorder = Recorder(layer)
def evaluate():
    with torch.no_grad():
        for step in range(3):
            layer(torch.randn(8, 8))
for epoch in range(2):
    for step in range(2):
        layer(torch.randn(8, 8)).sum().backward()
    evaluate()
"""
TAKE = "self.norms.append((self.seen.pop().norm() * grad_output[0].norm()).item())"


def said(keep: str, take: str = TAKE, change: tuple[str, str] = ("", "")) -> tuple[list[int], str]:
    source = SOURCE.replace("KEEP", keep).replace("TAKE", take).replace(*change)
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "kept-for-no-backward"], source


@pytest.mark.parametrize(
    ("keep", "take"),
    [
        ("self.seen.append(inputs[0].detach())  # here", TAKE),
        ("self.seen.append(inputs[0].data.clone())  # here", TAKE),
        (
            "self.by_module[module].append(output.detach())  # here",
            "self.norms.append(self.by_module[module].pop().norm().item())",
        ),
    ],
)
def test_the_line_that_keeps_them_is_the_cause(keep: str, take: str) -> None:
    lines, source = said(keep, take)
    assert lines == [line_of(source, "# here")]


@pytest.mark.parametrize(
    ("keep", "change"),
    [
        ("if torch.is_grad_enabled(): self.seen.append(inputs[0].detach())", ("", "")),
        (
            "if module.training: self.seen.append(inputs[0].detach())",
            ("    with torch.no_grad", "    layer.eval()\n    with torch.no_grad"),
        ),
        ("self.seen.append(inputs[0].detach())", ("    evaluate()\n", "    evaluate()\n    recorder.seen.clear()\n")),
        ("self.seen.append(inputs[0].detach())", ("    evaluate()\n", "    evaluate()\n    recorder.seen = []\n")),
        ("self.seen.append(inputs[0].detach())", ("    evaluate()\n", "")),
        ("self.seen.append(inputs[0].detach())", ("self.seen.pop()", "self.seen.pop(0)")),
        ("self.seen[:] = [inputs[0].detach()]", ("", "")),
    ],
)
def test_what_does_not_pile_up(keep: str, change: tuple[str, str]) -> None:
    assert said(keep, change=change)[0] == []

"""Attributes that torch ignores, set in place of requires_grad; and settings that it does not ignore."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

PROGRAM = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
freeze = {}
{}
net(torch.ones(3, 2)).sum().backward()
"""


def said(line: str, freeze: bool = False) -> list[str]:
    answers = build(recorded(PROGRAM.format(freeze, line))).answers
    return [one.text for one in answers if one.code == "attribute-ignored"]


@pytest.mark.parametrize(
    "line",
    [
        "for p in net[0].parameters(): p.require_grad = False",
        "for _, p in net.named_parameters(): p.requires_gradient = False",
        "net[0].requires_grad = False",
        "net[0].weight.require_grad = False",
        "for layer in net.children(): layer.requires_grad = False",
    ],
)
def test_the_line_that_sets_it_is_named(line: str) -> None:
    (text,) = said(line)
    assert text.startswith("Line 5: ")
    assert "torch ignores" in text


@pytest.mark.parametrize(
    "line",
    [
        "for p in net[0].parameters(): p.requires_grad = False",
        "net[0].weight.requires_grad = False",
        "if freeze: net[0].weight.requires_grad = False",
        "net[0].requires_grad_(False)",
        "class Config: pass\nConfig.require_grad = False",
        "net[0].require_grad = True",
    ],
)
def test_what_torch_reads_or_what_changes_nothing_is_not(line: str) -> None:
    assert said(line) == []


CALLED = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
def thaw(layer):
    for p in layer.parameters():
        p.require_grad = True
net[0].requires_grad_(False)
{}
net(torch.ones(3, 2)).sum().backward()
"""


@pytest.mark.parametrize(("call", "count"), [("thaw(net[0])", 1), ("pass", 0)])
def test_a_function_that_makes_no_other_call_has_run_where_the_text_calls_it(call: str, count: int) -> None:
    answers = build(recorded(CALLED.format(call))).answers
    assert [one.causes[0].line for one in answers if one.code == "attribute-ignored"] == [6] * count


OF_LAYERS = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(2))])
    def freeze(self):
        for layer in {}:
            layer.requires_grad = False
    def forward(self, x):
        return self.body(x) * self.scales[0]
net, is_frozen = Net(), False
{}
for _ in range(2):
    net(torch.ones(3, 2)).sum().backward()
"""


@pytest.mark.parametrize(
    ("over", "call", "count"),
    [
        ("self.body", "net.freeze()", 1),
        ("self.body[:2]", "net.freeze()", 1),
        ("self.body", "pass", 0),
        ("self.body", "if is_frozen: net.freeze()", 0),
        ("self.scales", "net.freeze()", 0),
    ],
)
def test_layers_of_what_a_loop_goes_over_by_its_name(over: str, call: str, count: int) -> None:
    """Tensors of a list take the attribute; what stands behind a condition may not have run."""
    answers = build(recorded(OF_LAYERS.format(over, call))).answers
    assert [one.causes[0].line for one in answers if one.code == "attribute-ignored"] == [10] * count

"""New layers that are frozen with what was there before; and those that are meant to be, or are trained."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
import torch.nn.functional as F
from torch import nn
class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.stem, self.norm, self.fc = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, classes)
    def forward(self, x): return self.fc(torch.relu(self.norm(self.stem(x))))
class Scaled(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net, self.scale = net, nn.Parameter(torch.ones(1))
    def forward(self, x): return self.net(x) * self.scale
class Classifier(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net, self.out = net, nn.Linear(2, 2)
    def forward(self, x): return self.out(self.net(x))
def freeze(model):
    for p in model.parameters(): p.requires_grad = False
x = torch.randn(8, 6)
y = (x.sum(1) > 0).long()
def plain(model): return F.cross_entropy(model(x), y)
def train(model, loss=plain):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    for _ in range(6):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
old, net = Net(2), Net()
"""
NEW = "net.fc = nn.Linear(8, 2)"


def said(body: str) -> tuple[list[list[int]], str]:
    answers = [one for one in build(recorded(HEAD + body)).answers if one.code == "new-layer-frozen"]
    return [[cause.line for cause in one.causes] for one in answers], HEAD + body


@pytest.mark.parametrize(
    ("put", "rest"),
    [
        (NEW, "train(Scaled(net))"),
        (NEW, "net.norm.requires_grad_(True)\ntrain(net)"),
        ("net.fc = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))", "train(Scaled(net))"),
        ("setattr(net, 'fc', nn.Linear(8, 2))", "train(Scaled(net))"),
    ],
)
def test_the_call_that_freezes_the_new_layer_too_is_the_cause(put: str, rest: str) -> None:
    found, source = said(f"{put}\nfreeze(net)\n{rest}")
    assert found == [[line_of(source, one) for one in ("\nfreeze(net)"[1:], put, "for p in model.parameters()")]]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(f"freeze(net)\n{NEW}\ntrain(Scaled(net))", id="put in after that"),
        pytest.param(f"{NEW}\nfreeze(net)\nnet.fc.requires_grad_(True)\ntrain(Scaled(net))", id="set back"),
        pytest.param(f"{NEW}\ntrain(net)\nfreeze(net)\ntrain(Scaled(net))", id="trained before"),
        pytest.param(
            f"{NEW}\nfreeze(net)\nw = Scaled(net)\ntrain(w)\nnet.fc.requires_grad_(True)\ntrain(w)", id="trained later"
        ),
        pytest.param(f"{NEW}\nnet.load_state_dict(old.state_dict())\nfreeze(net)\ntrain(Scaled(net))", id="loaded"),
        pytest.param(
            f"{NEW}\nwith torch.no_grad(): net.fc.weight.copy_(old.fc.weight)\nnet.fc.bias.data = old.fc.bias.data\n"
            "freeze(net)\ntrain(Scaled(net))",
            id="a copy of another layer",
        ),
        pytest.param(f"{NEW}\nfreeze(net)\ntrain(Classifier(net))", id="random features for a layer behind"),
        pytest.param(
            f"{NEW}\nfreeze(net)\ntrain(old, lambda model: (model(x) - net(x)).pow(2).mean())", id="a teacher's"
        ),
        pytest.param("freeze(old)\ntrain(Scaled(old))", id="a layer that was there"),
        pytest.param(
            f"{NEW}\nfreeze(net)\nshift = nn.Parameter(torch.zeros(8, 6))\noptimizer = torch.optim.SGD([shift], 0.1)\n"
            "for _ in range(6):\n    optimizer.zero_grad()\n    F.cross_entropy(net(x + shift), y).backward()\n"
            "    optimizer.step()",
            id="a perturbation of the input",
        ),
    ],
)
def test_what_is_meant_or_mended_is_silent(body: str) -> None:
    assert said(body)[0] == []


IN_FUNCTION = """
import torch
from torch import nn
def main():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 10))
    PUT
    model.requires_grad_(False)
    model[1].requires_grad_(True)
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
    for step in range(6):
        optimizer.zero_grad()
        model(torch.rand(5, 3)).pow(2).mean().backward()
        optimizer.step()
main()
"""


def test_a_layer_of_a_sequence_that_only_a_function_knows() -> None:
    def told(put: str) -> list[int]:
        answers = build(recorded(IN_FUNCTION.replace("PUT", put))).answers
        return [cause.line for one in answers if one.code == "new-layer-frozen" for cause in one.causes]

    assert told("model[2] = nn.Linear(4, 2)") == [6, 5]
    assert told("kept = nn.Linear(4, 2)") == []

"""Losses that are given probabilities, and losses that are given what they take."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
import torch.nn.functional as F
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        self.last = {last}
    def forward(self, x):
        return {returned}
model, x, classes, shares = Model(), torch.ones(5, 3), torch.tensor([0, 1, 0, 1, 0]), torch.full((5, 2), 0.5)
out = model(x)
{loss}.backward()
"""


def causes(last: str, returned: str, loss: str) -> list[int]:
    source = PROGRAM.format(last=last, returned=returned, loss=loss)
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "probabilities-as-logits" for cause in one.causes]


@pytest.mark.parametrize(
    ("last", "returned", "loss", "lines"),
    [
        ("nn.Identity()", "self.body(x).softmax(dim=1)", "F.cross_entropy(out, classes)", ["return"]),
        ("nn.Identity()", "torch.sigmoid(self.body(x)).view(5, 2)", "nn.BCEWithLogitsLoss()(out, shares)", ["return"]),
        ("nn.Identity()", "F.softmax(self.body(x), 1)", "F.nll_loss(out, classes)", ["return"]),
        ("nn.Identity()", "F.softmax(self.body(x), 1)", "F.kl_div(out, shares)", ["return"]),
        ("nn.Softmax(dim=1)", "self.last(self.body(x))", "F.cross_entropy(out, classes)", ["self.last =", "return"]),
        ("nn.Sequential(self.body, nn.Softmax(1))", "self.last(x)", "F.cross_entropy(out, classes)", ["self.last ="]),
    ],
)
def test_the_line_that_makes_probabilities_is_named(last: str, returned: str, loss: str, lines: list[str]) -> None:
    source = PROGRAM.format(last=last, returned=returned, loss=loss)
    assert causes(last, returned, loss) == [line_of(source, marker) for marker in lines]


@pytest.mark.parametrize(
    ("returned", "loss"),
    [
        ("self.body(x)", "F.cross_entropy(out, classes)"),
        ("self.body(x)", "F.cross_entropy(out, torch.softmax(out.detach(), 1))"),
        ("self.body(x).log_softmax(1)", "F.nll_loss(out, classes)"),
        ("self.body(x).log_softmax(1)", "F.cross_entropy(out, classes)"),
        ("self.body(x).softmax(1)", "F.nll_loss(out.log(), classes)"),
        ("self.body(x).sigmoid()", "F.binary_cross_entropy(out, shares)"),
        ("self.body(x).sigmoid()", "(F.binary_cross_entropy_with_logits(out * 3, shares))"),
    ],
)
def test_what_a_loss_takes_is_not_told(returned: str, loss: str) -> None:
    assert causes("nn.Identity()", returned, loss) == []


DRAWN = """
import torch
from torch import nn
import torch.nn.functional as F
from torch.distributions import Bernoulli, Categorical
layer, x = nn.Linear(3, 2), torch.ones(5, 3)
for step in range(2):
    scores = layer(x){probabilities}  # here
    {loss}.backward()
"""


@pytest.mark.parametrize(
    ("probabilities", "loss", "is_found"),
    [
        (".softmax(1)", "Categorical(logits=scores).log_prob(torch.ones(5)).mean()", True),
        (".sigmoid()", "Bernoulli(logits=scores[:, 0]).log_prob(torch.ones(5)).mean()", True),
        (".softmax(1)", "F.gumbel_softmax(scores, tau=0.5).pow(2).sum()", True),
        (".softmax(1)", "F.softmax(scores, dim=1).pow(2).sum()", True),
        (".sigmoid()", "scores.sigmoid().log().sum()", True),
        ("", "Categorical(logits=scores).log_prob(torch.ones(5)).mean()", False),
        (".log_softmax(1)", "Categorical(logits=scores).log_prob(torch.ones(5)).mean()", False),
        (".softmax(1)", "Categorical(scores).log_prob(torch.ones(5)).mean()", False),
        (".softmax(1)", "Categorical(probs=scores).log_prob(torch.ones(5)).mean()", False),
        (".sigmoid()", "scores.softmax(1).pow(2).sum()", False),  # (gates of which shares are taken)
        (".softmax(1)", "F.softmax(scores * 3 - 1, dim=1).pow(2).sum()", False),
    ],
)
def test_distributions_and_second_activations(probabilities: str, loss: str, is_found: bool) -> None:
    source = DRAWN.format(probabilities=probabilities, loss=loss)
    answers = [one for one in build(recorded(source)).answers if one.code == "probabilities-as-logits"]
    assert [one.causes[0].line for one in answers] == ([line_of(source, "# here")] if is_found else [])


CUT_OFF = """
import torch
from torch import nn
import torch.nn.functional as F
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)
        self.body = nn.Sequential(self.first, nn.ReLU(), self.last)
    def forward(self, x):
        return {returned}  # here
out = Net()(torch.ones(5, 3))
{loss}.backward()
"""
CROSS_ENTROPY = "F.cross_entropy(out, torch.tensor([0, 1, 0, 1, 0]))"


@pytest.mark.parametrize(
    ("returned", "loss", "is_found"),
    [
        ("F.relu(self.last(F.relu(self.first(x))))", CROSS_ENTROPY, True),
        ("self.last(self.first(x).relu()).relu()", CROSS_ENTROPY, True),
        ("F.relu(self.body(x)).view(5, 2)", "F.binary_cross_entropy_with_logits(out, torch.ones(5, 2))", True),
        ("self.body(x)", CROSS_ENTROPY, False),
        ("F.relu(self.body(x))", "F.mse_loss(out, torch.ones(5, 2))", False),
        ("F.relu(self.body(x))", CROSS_ENTROPY.replace("(out,", "(-out,"), False),
        ("F.leaky_relu(self.body(x))", CROSS_ENTROPY, False),
        (
            "F.relu(self.body(x))",
            CROSS_ENTROPY.replace("F.cross", "print(F.cross").replace("]))", "])))\nout.sum()"),
            False,
        ),
    ],
)
def test_logits_behind_a_relu(returned: str, loss: str, is_found: bool) -> None:
    source = CUT_OFF.format(returned=returned, loss=loss)
    answers = [one for one in build(recorded(source)).answers if one.code == "logits-cut-off"]
    assert [one.causes[0].line for one in answers] == ([line_of(source, "# here")] if is_found else [])

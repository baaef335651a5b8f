"""A target that is computed of the estimate that it is compared with, and has a gradient."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch import nn
import torch.nn.functional as F
encoder, other = nn.Linear(4, 3), nn.Linear(4, 3)
def sharpened(q):
    weight = q ** 2 / q.sum(dim=0)
    return weight / weight.sum(dim=1, keepdim=True)
x = torch.randn(8, 4)
logits = encoder(x)
q = logits.softmax(dim=1)
{}
loss.backward()
"""


def found(body: str) -> list[Answer]:
    return [one for one in build(recorded(SOURCE.format(body))).answers if one.code == "target-with-gradient"]


@pytest.mark.parametrize(
    ("body", "made"),
    [
        ("p = sharpened(q)\nloss = F.kl_div(q.log(), p, reduction='batchmean')", "return weight /"),
        ("loss = F.cross_entropy(logits, (logits / 0.5).softmax(dim=1))", "loss = "),
        ("p = sharpened(q)\nloss = nn.KLDivLoss(reduction='sum')(F.log_softmax(logits, dim=1), p)", "return weight /"),
    ],
)
def test_a_target_that_follows_its_estimate(body: str, made: str) -> None:
    (answer,) = found(body)
    assert [cause.line for cause in answer.causes][:1] == [line_of(SOURCE.format(body), made)]


@pytest.mark.parametrize(
    "body",
    [
        "p = sharpened(q).detach()\nloss = F.kl_div(q.log(), p, reduction='batchmean')",
        "with torch.no_grad():\n    p = sharpened(q)\nloss = F.kl_div(q.log(), p, reduction='batchmean')",
        "loss = F.kl_div(q.log(), sharpened(encoder(x + 0.1).softmax(dim=1)), reduction='batchmean')",  # R-Drop
        "loss = F.kl_div(q.log(), other(x).softmax(dim=1), reduction='batchmean')",
        "loss = -(q * q.log()).sum()",
        "loss = F.cross_entropy(logits, logits.softmax(dim=1))",  # their entropy
    ],
)
def test_constant_targets_and_those_of_other_passes(body: str) -> None:
    assert not found(body)

"""A focal factor that is computed from the mean of the losses: one factor for all samples."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

FOCAL = """
import torch
from torch import nn
import torch.nn.functional as F
layer, criterion = nn.Linear(3, 2), nn.CrossEntropyLoss({})
inputs, targets = torch.rand(8, 3), torch.randint(0, 2, (8,))
logits = layer(inputs)
{}
loss.backward()
"""


def found(reduction: str, body: str) -> list[Answer]:
    return [one for one in build(recorded(FOCAL.format(reduction, body))).answers if one.code == "weighted-after-mean"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ("ce = F.cross_entropy(logits, targets)\np = torch.exp(-ce)\nloss = (1 - p) ** 2 * ce", "F.cross_entropy("),
        ("ce = criterion(logits, targets)\nloss = (0.25 * (1 - (-ce).exp()).pow(2) * ce).mean()", "CrossEntropyLoss("),
        (
            "bce = F.binary_cross_entropy_with_logits(logits[:, 0], targets.float())\n"
            "loss = bce * 0.5 * (1 - torch.exp(-bce)).square()",
            "F.binary_cross",
        ),
    ],
)
def test_a_focal_factor_of_a_mean(body: str, where: str) -> None:
    (answer,) = found("", body)
    assert "one factor for all samples" in answer.text
    assert line_of(FOCAL.format("", body), where) in [cause.line for cause in answer.causes]


@pytest.mark.parametrize(
    ("reduction", "body"),
    [
        ("", "ce = F.cross_entropy(logits, targets, reduction='none')\nloss = ((1 - torch.exp(-ce)) ** 2 * ce).mean()"),
        ("reduction='none'", "ce = criterion(logits, targets)\nloss = ((1 - (-ce).exp()).pow(2) * ce).mean()"),
        ("", "ce = F.cross_entropy(logits[0], targets[0])\nloss = (1 - torch.exp(-ce)) ** 2 * ce"),
        ("", "ce = F.cross_entropy(logits, targets)\nprint(ce.exp())\nloss = ce * 2"),
        ("", "s = layer.bias[0]\nce = F.cross_entropy(logits, targets)\nloss = torch.exp(-s) * ce + s"),
    ],
)
def test_factors_of_each_sample_and_others(reduction: str, body: str) -> None:
    assert not found(reduction, body)

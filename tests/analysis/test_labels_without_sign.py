"""Labels of 0 and 1 for losses that take 1 and -1: only where it is known how they were made."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
import torch.nn.functional as F
from torch import nn
net = nn.Linear(3, 4)
score = nn.Linear(3, 1)
a, b = torch.rand(8, 3), torch.rand(8, 3)
order = torch.randperm(8)
first, second = score(a).squeeze(1), score(b).squeeze(1)
labels = MADE  # made
loss = LOSS  # loss
loss.backward()
"""
RANKED = "F.margin_ranking_loss(first, second, labels)"
COMPARED = "(a.sum(1) > b.sum(1)).float()"


def found(made: str, loss: str) -> list[list[int]]:
    source = PROGRAM.replace("MADE", made).replace("LOSS", loss)
    answers = [one for one in build(recorded(source)).answers if one.code == "labels-without-sign"]
    assert all(line_of(source, "# made") == one.causes[0].line for one in answers)
    return [[cause.line - line_of(source, "# made") for cause in one.causes] for one in answers]


@pytest.mark.parametrize(
    ("made", "loss"),
    [
        (COMPARED, RANKED),
        ("(a.sum(1) > b.sum(1)).to(torch.float32)", "nn.MarginRankingLoss(0.2)(first, second, labels)"),
        ("torch.randint(0, 2, (8,)).float()", "F.margin_ranking_loss(first, second, labels[order])"),
        ("torch.randint(2, (8,))", "F.cosine_embedding_loss(net(a), net(b), labels)"),
        ("(torch.arange(8) % 2)[order].long()", "nn.CosineEmbeddingLoss()(net(a), net(b), labels.view(-1))"),
        ("torch.cat([torch.ones(4), torch.zeros(4)])", "F.hinge_embedding_loss((net(a) - net(b)).norm(dim=1), labels)"),
        ("torch.where(a.sum(1) > 1, 1.0, 0.0)", "nn.SoftMarginLoss()(first, labels)"),
        ("(a.sum(1) > 1).type_as(a)", "F.soft_margin_loss(first, labels)"),
    ],
)
def test_zeros_and_ones(made: str, loss: str) -> None:
    assert found(made, loss) == [[0, 1]]


@pytest.mark.parametrize(
    ("made", "loss"),
    [
        (f"{COMPARED} * 2 - 1", RANKED),
        ("torch.where(a.sum(1) > 1, 1.0, -1.0)", RANKED),
        ("torch.sign(a.sum(1) - b.sum(1))", RANKED),
        ("torch.ones(8)", RANKED),
        (f"{COMPARED}; labels[labels == 0] = -1", RANKED),
        ("torch.cat([torch.ones(4), -torch.ones(4)])", RANKED),
        ("torch.randint(0, 3, (8,)).float()", RANKED),
        ("(torch.arange(8) % 3).float()", RANKED),
        (COMPARED, "F.binary_cross_entropy_with_logits(first, labels)"),
        (COMPARED, "F.margin_ranking_loss(first, second, 1 - 2 * labels)"),
        (COMPARED, "F.margin_ranking_loss(first.detach(), second.detach(), labels) + first.sum()"),
    ],
)
def test_others(made: str, loss: str) -> None:
    assert found(made, loss) == []

"""Leaves that the program gives new values itself in each round: no gradient is missed there."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch import nn

class Codebook(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(4, 3)
        self.mask = torch.ones(4, 3)
        self.register_buffer("size", torch.ones(4))
        self.register_buffer("total", torch.zeros(4, 3))

    def forward(self, z):
        weight = self.embedding.weight
        at = torch.cdist(z, weight).argmin(1)
        one_hot = torch.zeros(len(z), 4).scatter_(1, at.unsqueeze(1), 1.0)
        quantized = weight[at]{used}
        {update}
        return z + (quantized - z).detach()

{encoder}
book = Codebook()
decoder = nn.Linear(3, 5)
optimizer = torch.optim.Adam([*encoder.parameters(), *book.parameters(), *decoder.parameters()])
for step in range(4):
    x = torch.randn(8, 5)
    optimizer.zero_grad()
    loss = (decoder(book(encoder(x))) - x).pow(2).mean(){more}
    loss.backward()
    optimizer.step()
"""
TRAINED = "encoder = nn.Linear(5, 3)"
SUMS = "self.total = 0.9 * self.total + 0.1 * one_hot.t() @ z.detach()"
BY_DATA = SUMS + "; weight.data.copy_(self.total)"


def answers(update: str, encoder: str = TRAINED, used: str = "", more: str = "") -> list[Answer]:
    source = SOURCE.format(update=update, encoder=encoder, used=used, more=more)
    return [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]


@pytest.mark.parametrize(
    ("update", "told"),
    [
        ("self.embedding.weight = nn.Parameter(0.9 * weight + 0.1 * one_hot.t() @ z)", "puts others with given values"),
        (SUMS + "; self.embedding.weight = nn.Parameter(self.total.clone())", "puts others with given values"),
        (BY_DATA, "gives it its values"),
        ("weight.data.mul_(0.9).add_(one_hot.t() @ z.detach(), alpha=0.1)", "gives it its values"),
        ("torch.no_grad()(lambda: weight.lerp_(one_hot.t() @ z, 0.1))()", "gives it its values"),
    ],
)
def test_a_codebook_that_follows_running_sums_needs_no_gradient(update: str, told: str) -> None:
    (answer,) = answers(update)
    assert answer.severity == "note"
    assert f"line {line_of(SOURCE.replace('{update}', update), update)} {told}" in answer.text


def test_batches_may_be_what_it_follows() -> None:
    (answer,) = answers(BY_DATA, encoder=TRAINED + ".requires_grad_(False)")
    assert answer.severity == "note"


@pytest.mark.parametrize(
    "update",
    [
        "pass",
        "weight.data.div_(weight.data.norm(dim=1, keepdim=True))",
        "weight.data.clamp_(-1, 1)",
        "weight.data.mul_(self.mask)",
        "weight.data.add_(torch.randn(4, 3), alpha=0.01)",
        "if step == 0: weight.data.copy_(z.detach()[:4])",
        "self.embedding.weight = nn.Parameter(0.9 * weight.detach())",
    ],
)
def test_a_codebook_that_nothing_fills_is_told_of_once(update: str) -> None:
    (answer,) = answers(update, used=" * self.mask[at]")
    assert answer.severity == "warning"
    assert "embedding.weight" in answer.text


def test_a_parameter_whose_successors_get_gradients_is_told_of() -> None:
    update = "self.embedding.weight = nn.Parameter(0.9 * weight + 0.1 * one_hot.t() @ z)"
    trained = f"{update}; self.extra = self.embedding.weight.sum()"
    (answer,) = answers(trained, more=" + book.extra")
    assert answer.severity == "warning"

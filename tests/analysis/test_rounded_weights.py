"""Weights that are overwritten by their own rounded values, and what only looks like it."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch import nn
torch.manual_seed(0)
mask, residual, noise = torch.ones(3, 4), torch.zeros(3, 4), torch.rand(3, 4)
class Layer(nn.Linear):
    def forward(self, x):
        w = self.weight
        {forward}  # write
        return nn.functional.linear(x, self.weight, self.bias)
layer = Layer(4, 3)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
for step in range(6):
    optimizer.zero_grad()
    layer(torch.randn(5, 4)).pow(2).sum().backward()
    {before}
    optimizer.step()
    {after}  # after
"""


def found(forward: str = "pass", before: str = "pass", after: str = "pass") -> list[list[int]]:
    answers = build(recorded(SOURCE.format(forward=forward, before=before, after=after))).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "weights-overwritten"]


LOST = [
    "w.data = (w.data / 0.1).round() * 0.1",
    "w.data = w.data.sign()",
    "w.data = w.data.sign() * w.data.abs().mean(1, keepdim=True)",
    "w.data.copy_(torch.round(w.data * 8).clamp(-7, 7) / 8)",
    "w.data.div_(0.1).round_().mul_(0.1)",
    "w.data = torch.where(w.data > 0, torch.tensor(0.1), torch.tensor(-0.1)) * w.data.sign().abs()",
    "w.data = torch.fake_quantize_per_tensor_affine(w.data, 0.1, 0, -7, 7)",
    "w.data = (w.data / 0.1).round_() * 0.1",
    "a = w.data.abs().mean(); w.data = torch.where(w.data >= 0, a, -a)",
    "w.data = (w.data > 0.1).float() - (w.data < -0.1).float()",
]


@pytest.mark.parametrize("write", LOST)
def test_rounded_values_in_the_weights_own_place(write: str) -> None:
    line = line_of(SOURCE, "# write")
    assert found(write) == [[line]]


def test_a_view_of_the_weights_is_no_write() -> None:
    source = "w.data = w.data.sign(); x = x @ self.weight.t() @ self.weight"
    assert found(source) == [[line_of(SOURCE, "# write")]]


def test_after_the_step() -> None:
    assert found(after="layer.weight.data.copy_((layer.weight.data * 8).round() / 8)") == [[line_of(SOURCE, "# after")]]


@pytest.mark.parametrize(
    ("forward", "before", "after"),
    [
        ("self.latent = w.data.clone(); w.data = w.data.sign()", "layer.weight.data = layer.latent", "pass"),
        ("self.latent = w.data.clone(); w.data.sign_()", "layer.weight.data.copy_(layer.latent)", "pass"),
        ("w.data = w.data.clamp(-1, 1)", "pass", "pass"),
        ("w.data = w.data * (w.data.abs() > 0.01)", "pass", "pass"),
        ("w.data = w.data.sign() * (w.data.abs() - 0.001).clamp(min=0)", "pass", "pass"),
        ("w.data = torch.floor(w.data / 0.1 + torch.rand_like(w.data)) * 0.1", "pass", "pass"),
        ("v = w.data + residual; q = (v * 8).round() / 8; residual.copy_(v - q); w.data = q", "pass", "pass"),
        ("if step % 3 == 2: w.data = w.data.round()", "pass", "pass"),
        ("pass", "pass", "if step == 5: layer.weight.data.round_()"),
    ],
)
def test_where_a_step_is_not_lost(forward: str, before: str, after: str) -> None:
    assert not found(forward, before, after)


def test_an_image_of_whole_numbers_that_is_optimised() -> None:
    source = SOURCE.replace("layer.parameters()", "[image]").replace(
        "layer = Layer(4, 3)", "image = torch.rand(5, 4)\n{}"
    )
    source = source.replace("{}", "image.requires_grad_(); layer = Layer(4, 3)").replace("torch.randn(5, 4)", "image")
    source = source.replace("{after}", "image.data = (image.data * 255).round() / 255")
    answers = build(recorded(source.format(forward="pass", before="pass"))).answers
    assert "weights-overwritten" not in [one.code for one in answers]

"""What made the value for which a call gives NaN is named beside the call."""

from __future__ import annotations

import pytest
import torch

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
net = nn.Linear(3, 3)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
"""
MASKS = {
    "a causal one": "torch.triu(torch.ones(3, 3, dtype=torch.bool))",
    "by a comparison": "torch.arange(3)[None, :] >= torch.arange(3)[:, None]",
}
ATTENDS = """
for step in range(2):
    mask = {}  # made
    scores = net(torch.randn(3, 3))
    {}
    loss.backward()
    optimizer.step()
"""
USES = {
    "masked_fill": "loss = scores.masked_fill(mask, float('-inf')).softmax(-1).sum()",
    "where": "loss = torch.where(mask, -torch.inf, scores).softmax(-1).sum()",
}


def not_finite(source: str) -> Answer:
    (found,) = [one for one in build(recorded(source)).answers if one.code == "gradient-not-finite"]
    return found


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("mask", MASKS)
def test_the_line_that_made_a_mask(mask: str, use: str) -> None:
    source = HEAD + ATTENDS.format(MASKS[mask], USES[use])
    found, line = not_finite(source), line_of(source, "# made")
    assert line in [cause.line for cause in found.causes] and f"line {line} made the mask" in found.text


def test_what_the_line_that_fills_makes_of_a_mask_is_not_the_mask() -> None:
    source = HEAD + ATTENDS.format("torch.arange(3)[None, :] < torch.arange(3)[:, None]", USES["masked_fill"])
    source = source.replace("masked_fill(mask", "masked_fill(~mask")
    found, line = not_finite(source), line_of(source, "# made")
    assert f"line {line} made the mask" in found.text


def test_the_padding_mask_of_attention() -> None:
    source = HEAD + (
        "attend = nn.MultiheadAttention(3, 1, batch_first=True)\nids = torch.zeros(2, 4)\n"
        "pad = ids == 0  # made\nx = net(torch.randn(2, 4, 3))\n"
        "attend(x, x, x, key_padding_mask=pad)[0].sum().backward()"
    )
    assert line_of(source, "# made") in [cause.line for cause in not_finite(source).causes]


def test_the_bound_of_a_clamp() -> None:
    source = HEAD + (
        "x = net(torch.ones(2, 3)) + 9\nkept = (x / x).clamp(-1.0, 1.0)  # bound\n{}\n"
        "torch.acos(kept).sum().backward()\noptimizer.step()"
    )
    clamped = source.format("")
    at_bound = torch.ones(1, requires_grad=True)
    if not torch.autograd.grad(at_bound.clamp(-1.0, 1.0), at_bound)[0]:
        pytest.skip("this torch gives no gradient on the bound")
    assert not_finite(clamped).causes[-1].line == line_of(clamped, "# bound")
    inside = source.replace("(x / x).clamp(-1.0, 1.0)", "x / x").format("kept = kept.clamp(-2, 2)  # no bound")
    assert line_of(inside, "# no bound") not in [cause.line for cause in not_finite(inside).causes]


def test_weights_of_zeros_that_are_divided_by_their_norm() -> None:
    source = HEAD + (
        "last = nn.Linear(3, 2)\n{}(last.weight)  # set\nlast = weight_norm(last)\n"
        "last(net(torch.ones(2, 3))).sum().backward()"
    )
    zeros = source.format("nn.init.zeros_")
    assert not_finite(zeros).causes[0].line == line_of(zeros, "# set")
    assert "gradient-not-finite" not in [one.code for one in build(recorded(source.format("nn.init.ones_"))).answers]


def test_weights_that_are_infinite_for_a_class_that_is_absent() -> None:
    source = HEAD + (
        "labels = torch.tensor([0, 1, 0, 1])\ncounts = torch.bincount(labels, minlength=3).float()\n"
        "weight = 1.0 / counts  # infinite\nweight = weight / weight.sum()\n"
        "nn.functional.cross_entropy(net(torch.ones(4, 3)), labels, weight=weight).backward()"
    )
    assert not_finite(source).causes[0].line == line_of(source, "# infinite")


ROTATES = """
import torch
turn = torch.zeros(3, 3, requires_grad=True)
other = torch.ones(3, requires_grad=True)
squared = turn.pow(2).sum(-1)
{root}  # root
near = squared < 1e-8
{chosen}  # chosen
chosen.sum().backward()
"""
DIVIDED = "chosen = torch.where(near, 1 - squared / 6, angle.sin() / angle)"


@pytest.mark.parametrize(
    ("root", "chosen"),
    [
        ("angle = squared.sqrt()", DIVIDED),
        ("angle = squared ** 0.5", DIVIDED),
        ("angle = torch.sqrt(squared)", "chosen = torch.where(near, 0.5, (1 - angle.cos()) / angle.pow(2))"),
        ("angle = torch.sqrt(squared)", "chosen = torch.where(near, 0.5, (1 - angle.cos()) / (angle * angle))"),
        ("angle = squared.sqrt()", "chosen = (other / (2 * angle)).masked_fill(near, 0.5)"),
    ],
)
def test_the_root_that_made_a_divisor_is_the_one_to_guard(root: str, chosen: str) -> None:
    source = ROTATES.format(root=root, chosen=chosen)
    found = not_finite(source)
    assert [cause.line for cause in found.causes] == [line_of(source, "# root"), line_of(source, "# chosen")]
    assert f"behind it, where that keeps 0, at line {line_of(source, '# root')}" in found.text
    assert "root" in found.text.rpartition(". ")[2] or "base" in found.text.rpartition(". ")[2]


def test_a_root_beside_the_divisor_is_named_last() -> None:
    source = ROTATES.format(root="angle = squared.sqrt()", chosen="chosen = torch.where(near, 0.5, angle / squared)")
    found = not_finite(source)
    assert [cause.line for cause in found.causes] == [line_of(source, "# chosen"), line_of(source, "# root")]
    assert "divisor" in found.text.rpartition(". ")[2]


@pytest.mark.parametrize("root", ["angle = (squared + 1e-12).sqrt() - 1e-6", "angle = squared * 2"])
def test_a_root_that_is_finite_is_not_named(root: str) -> None:
    source = ROTATES.format(root=root, chosen=DIVIDED)
    assert [cause.line for cause in not_finite(source).causes] == [line_of(source, "# chosen")]

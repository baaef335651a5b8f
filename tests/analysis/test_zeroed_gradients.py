"""Weight decay and gradients that were set to zero: said where it moves something, silent where that is undone."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

PROGRAM = """
import torch
from torch import nn
table, other = nn.Parameter(torch.ones(4, 2)), nn.Parameter(torch.ones(3))
keep, PAD = torch.tensor([True, True, True, False]), 2
factor = torch.zeros_like(table); factor[3] = 1
old = table.detach().clone()
{before}
optimizer = torch.optim.{optimizer}
for step in range(3):
    optimizer.zero_grad(set_to_none={to_none})
    (table.sum() + other.sum()).backward()
    {zero}
    optimizer.step()
    {after}
"""
DECAY, NONE = "SGD([table, other], lr=0.1, weight_decay=0.1)", "SGD([table, other], lr=0.1)"
ZERO = "table.grad[keep] = 0"


def causes(
    zero: str, optimizer: str = DECAY, before: str = "pass", after: str = "pass", to_none: bool = True
) -> list[int]:
    source = PROGRAM.format(zero=zero, optimizer=optimizer, before=before, after=after, to_none=to_none)
    answers = [one for one in build(recorded(source)).answers if one.code == "decayed-though-zeroed"]
    return [cause.line for answer in answers for cause in answer.causes]


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize(
    "zero",
    [
        ZERO,
        "table.grad.data[:2] = 0.0",
        "table.grad.masked_fill_(keep[:, None], 0)",
        "table.grad.mul_(~keep[:, None])",
        "table.grad *= factor",
        "table.grad.zero_()",
        "table.grad.data[keep, :] = table.grad.data[keep, :].fill_(0)",
        "table.grad[keep] = torch.zeros_like(table.grad[keep])",
        "table.grad[keep] *= 0",
        "table.grad[:3].mul_(0.0)",
        "table.grad = table.grad * factor",
        "table.grad.data = table.grad.data * ~keep[:, None]",
        "table.grad.copy_(table.grad * factor)",
        "table.grad = torch.where(keep[:, None], torch.zeros_like(table.grad), table.grad)",
        "table.grad = table.grad.masked_fill(keep[:, None], 0)",
        "new = torch.zeros_like(table.grad)\n    new[~keep] = table.grad[~keep]\n    table.grad = new",
    ],
)
def test_a_gradient_that_is_zeroed_before_a_step_with_decay(zero: str, to_none: bool) -> None:
    assert causes(zero, to_none=to_none) == [8]


@pytest.mark.parametrize("optimizer", [NONE, "AdamW([{'params': [table], 'weight_decay': 0}, {'params': [other]}])"])
def test_without_decay_nothing_moves(optimizer: str) -> None:
    assert causes(ZERO, optimizer) == []


@pytest.mark.parametrize(
    "zero",
    [
        "table.grad *= table.grad.abs() > 0.1",
        "table.grad.masked_fill_(torch.isnan(table.grad), 0)",
        "table.grad[~torch.isfinite(table.grad)] = 0",
        "table.grad *= torch.rand_like(table.grad) < 0.5",
        "table.grad = torch.where(table.grad.isfinite(), table.grad, torch.zeros_like(table.grad))",
        "table.grad = table.grad * 0.5",
        "table.grad.data = table.grad.data / 2",
        "new = torch.zeros_like(table)\n    new += table.grad\n    table.grad = new",
        "new = torch.zeros_like(table)\n    new[:] = table.grad\n    table.grad = new",
        "table.grad = torch.zeros_like(table)",
    ],
)
def test_gradients_that_are_cleaned_or_thinned_out(zero: str) -> None:
    assert causes(zero) == []


@pytest.mark.parametrize(
    "zero", ["table.grad.mul_(0.5)", "table.grad *= torch.ones(())", "table.grad[keep] = 1.0", "table.grad[PAD] = 0"]
)
def test_writes_that_are_not_known_to_hold_something_still(zero: str) -> None:
    assert causes(zero) == []


@pytest.mark.parametrize(
    ("zero", "before", "after"),
    [
        (ZERO, "pass", "table.data[keep] = old[keep]"),
        (ZERO, "table.data[keep] = 0", "pass"),
        ("table.grad.mul_(table != 0)", "table.data[:2] = 0", "pass"),
        ("table.grad[1] = 0", "table.data[1] = 0", "pass"),
        ("pass", "pass", "table.grad.zero_()"),
        (ZERO, "pass", "break"),
    ],
)
def test_what_is_written_back_or_is_zero_itself_or_comes_after_the_step(zero: str, before: str, after: str) -> None:
    assert causes(zero, before=before, after=after) == []


def test_rows_that_were_given_a_number_before_are_moved_all_the_same() -> None:
    assert causes("table.grad[keep] *= 0", before="table.data[3] = 2.0") == [8]


OF_ANOTHER_PASS = [
    "way = (table * torch.arange(8.0).view(4, 2)).pow(2).sum()\n"
    "saliency = torch.autograd.grad(way, [table])[0].abs() >= 9\nchosen = saliency.float()",
    "(table * torch.arange(8.0).view(4, 2)).pow(2).sum().backward()\n"
    "chosen = (table.grad.abs() > table.grad.abs().mean()).float()\ntable.grad = None",
    "chosen = (torch.rand(4, 2) < 0.5).float()",
]


@pytest.mark.parametrize("zero", ["table.grad.mul_(chosen)", "table.grad[chosen == 0] = 0"])
@pytest.mark.parametrize("before", OF_ANOTHER_PASS, ids=["grad", "backward", "drawn"])
def test_a_mask_that_was_computed_once_holds_the_same_elements_in_each_step(before: str, zero: str) -> None:
    assert causes(zero, before=before) == [8 + before.count("\n")]


@pytest.mark.parametrize("zero", ["table.grad.mul_(chosen)", "table.grad[chosen == 0] = 0"])
@pytest.mark.parametrize(
    "put",
    [
        "\ntable.data = table.data * chosen",
        "\nlost = 1 - chosen\ntable.data[lost.bool()] = 0",
        "\nprint((table * chosen).sum())",
    ],
    ids=["replaced", "the other way round", "in a forward"],
)
def test_a_mask_that_is_put_on_the_weight_as_well_is_quiet(put: str, zero: str) -> None:
    assert causes(zero, before=OF_ANOTHER_PASS[2] + put) == []


@pytest.mark.parametrize("drawn", ["torch.rand(4, 2) < 0.5", "table.grad.abs() > table.grad.mean()"])
def test_a_mask_that_is_computed_anew_each_time_is_quiet(drawn: str) -> None:
    assert causes(f"table.grad.mul_(({drawn}).float())") == []

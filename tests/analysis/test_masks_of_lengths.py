"""Masks of attention that come from lengths, and masks of numbers."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """
import torch
import torch.nn.functional as F
from torch import nn
module, layer = nn.MultiheadAttention(4, 1, batch_first=True), nn.TransformerEncoderLayer(4, 1, 8, batch_first=True)
encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
n, lengths, pads = 5, torch.tensor([2, 4]), torch.tensor([3, 1])
x = torch.randn(2, n, 4, requires_grad=True)
ids = torch.tensor([[3, 4, 0, 0, 0], [3, 4, 5, 6, 0]])
scores = x @ x.mT
mask = MASK
out = ATTEND
out.sum().backward()
"""
WITHIN, BEYOND = "torch.arange(n) < lengths[:, None]", "torch.arange(n)[None] >= lengths.unsqueeze(1)"
FUSED = "F.scaled_dot_product_attention(x, x, x, attn_mask=mask[:, None])"
MODULE = "module(x, x, x, key_padding_mask=mask)[0]"
FILLED = "scores.masked_fill(mask[:, None], float('-inf')).softmax(-1) @ x"
ADDED, FACTOR = "F.softmax(scores + mask[:, None], dim=-1) @ x", "torch.softmax(scores * mask[:, None], -1) @ x"


def lines(code: str, mask: str, attend: str) -> list[int]:
    answers = build(recorded(SOURCE.replace("MASK", mask).replace("ATTEND", attend))).answers
    assert {one.code for one in answers} <= {code, "leaf-unreached", "derivative-not-finite"}, answers
    return [cause.line for one in answers if one.code == code for cause in one.causes]


@pytest.mark.parametrize(
    ("mask", "attend"),
    [
        (BEYOND, FUSED),
        (f"~({WITHIN})", FUSED),
        ("lengths[:, None] <= torch.arange(n)", FUSED),
        (f"({BEYOND}) & (ids != 3)", FUSED),
        (WITHIN, MODULE),
        (f"~({BEYOND})", MODULE),
        (WITHIN, "layer(x, src_key_padding_mask=mask)"),
        (WITHIN, "encoder(x, src_key_padding_mask=mask)"),
        (WITHIN, FILLED),
        ("torch.arange(n) < (ids != 0).sum(1, keepdim=True)", MODULE),
        # numbers that are added
        (f"({WITHIN}).float() * -1e9", FUSED),
        (f"(1 - ({BEYOND}).float()) * -1e9", ADDED),
        (f"torch.zeros(2, n).masked_fill({WITHIN}, float('-inf'))", FUSED),
        (f"torch.where({WITHIN}, float('-inf'), 0.0)", FUSED),
    ],
)
def test_a_mask_of_lengths_that_leaves_only_the_padding_is_told(mask: str, attend: str) -> None:
    assert lines("mask-reversed", mask, attend) == [11, 10]


@pytest.mark.parametrize(
    ("mask", "attend"),
    [
        (WITHIN, FUSED),
        (f"({WITHIN}) & (ids != 3)", FUSED),
        (BEYOND, MODULE),
        (f"~({WITHIN})", "encoder(x, src_key_padding_mask=mask)"),
        (BEYOND, FILLED),
        # padding on the left: a count of what comes before the items, and the place where they begin
        ("torch.arange(n) < pads[:, None]", MODULE),
        ("torch.arange(n) >= (n - lengths)[:, None]", FUSED),
        # what comes later than an item
        ("(torch.arange(n)[:, None] < torch.arange(n))[None].repeat(2, 1, 1)", FILLED.replace("mask[:, None]", "mask")),
        # either of two reasons to attend, and both of two reasons to leave out
        (f"({BEYOND}) | (ids != 9)", FUSED),
        (f"({WITHIN}) & (ids == 9)", MODULE),
        # numbers that are added
        (f"(1 - ({WITHIN}).float()) * -1e9", FUSED),
        (f"torch.zeros(2, n).masked_fill({BEYOND}, float('-inf'))", FUSED),
        (f"torch.where({WITHIN}, 0.0, float('-inf'))", ADDED),
        (f"({WITHIN}).float().masked_fill({BEYOND}, float('-inf')).masked_fill({WITHIN}, 0.0)", FUSED),
        # whole rows
        (BEYOND, "F.scaled_dot_product_attention(x, x, x, attn_mask=mask[:, :, None]).nan_to_num(0.0)"),
    ],
)
def test_a_mask_of_lengths_the_right_way_round_is_none(mask: str, attend: str) -> None:
    assert lines("mask-reversed", mask, attend) == []


@pytest.mark.parametrize(
    ("mask", "attend"),
    [
        (f"({WITHIN}).float()", FUSED),
        (f"({WITHIN}).to(x.dtype)", MODULE),
        (f"1.0 - ({WITHIN}).float()", ADDED),
        ("torch.tril(torch.ones(n, n))[None]", ADDED),
        ("torch.ones(n, n).triu(1)", "module(x, x, x, attn_mask=mask)[0]"),
        (f"({WITHIN}).float()", FACTOR),
        ("torch.tril(torch.ones(n, n))[None]", FACTOR),
    ],
)
def test_zeros_and_ones_that_are_added_or_multiplied_are_told(mask: str, attend: str) -> None:
    assert lines("mask-leaves-nothing-out", mask, attend) == [10, 11]


@pytest.mark.parametrize(
    ("mask", "attend"),
    [
        (WITHIN, FUSED),
        ("torch.tril(torch.ones(n, n)).log()[None]", ADDED),
        ("torch.tril(torch.ones(n, n, dtype=torch.bool))[None]", FUSED),
        # other numbers; a weight that was learned
        (f"({WITHIN}).float() * 0.5", FUSED),
        (f"nn.Parameter(({WITHIN}).float())", ADDED),
        # something else leaves out what is to be left out; the values are masked and not the scores
        (f"({WITHIN}).float()", "(scores * mask[:, None]).masked_fill(mask[:, None] == 0, -1e9).softmax(-1) @ x"),
        (f"({WITHIN}).float()", "scores.softmax(-1) * mask[:, None] @ x"),
        (f"({WITHIN}).float()", "(scores * mask[..., None]).softmax(-1) @ x"),
        # the mask is made what it should be later
        (f"({WITHIN}).float()", f"[mask.masked_fill_(mask == 0, -1e9), {FUSED}][1]"),
    ],
)
def test_a_mask_that_leaves_out_is_none(mask: str, attend: str) -> None:
    assert lines("mask-leaves-nothing-out", mask, attend) == []

"""Padding masks of attention the wrong way round."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """
import torch
import torch.nn.functional as F
from torch import nn
PAD = 0
table = nn.Embedding(9, 4, padding_idx=0)
module, layer = nn.MultiheadAttention(4, 1, batch_first=True), nn.TransformerEncoderLayer(4, 1, 8, batch_first=True)
ids = torch.tensor([[3, 5, 0, 0], [2, 7, 1, 0]])
x = table(ids)
mask = MASK
out = ATTEND
out.sum().backward()
"""
FUSED = "F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], attn_mask=mask[:, None, None, :])"
MODULE = "module(x, x, x, key_padding_mask=mask)[0]"
LAYER = "layer(x, src_key_padding_mask=mask)"
FILLED = "(x @ x.mT).masked_fill(mask[:, None], float('-inf')).softmax(-1) @ x"


def lines(mask: str, attend: str) -> list[int]:
    answers = build(recorded(SOURCE.replace("MASK", mask).replace("ATTEND", attend))).answers
    return [cause.line for one in answers if one.code == "mask-reversed" for cause in one.causes]


@pytest.mark.parametrize(
    ("mask", "attend"),
    [
        ("ids == PAD", FUSED),
        ("~(ids != 0)", FUSED),
        ("ids != PAD", MODULE),
        ("(ids == 0) == 0", MODULE),
        ("ids.ne(table.padding_idx)", LAYER),
        ("ids != 0", FILLED),
        ("(ids == 0).logical_not()", FILLED.replace("float('-inf')", "-1e9")),
    ],
)
def test_the_call_that_takes_the_mask_comes_first_and_the_comparison_after_it(mask: str, attend: str) -> None:
    assert lines(mask, attend) == [10, 9]


@pytest.mark.parametrize(
    ("mask", "attend"),
    [
        ("ids != PAD", FUSED),
        ("~(ids == PAD)", FUSED),
        ("ids == PAD", MODULE),
        ("~(ids != PAD)", LAYER),
        ("ids == 0", FILLED),
        ("(ids != 0) == 0", FILLED),
        # what is filled in is no reason to leave it out
        ("ids != 0", FILLED.replace("float('-inf')", "0.0")),
        # another item than the padding, and what no embedding looks up
        ("ids == 3", FUSED),
        ("torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]]) == 0", FUSED),
    ],
)
def test_a_mask_the_right_way_round_is_none(mask: str, attend: str) -> None:
    assert lines(mask, attend) == []

"""Writes into the weight of a layer whose hook computes it anew at each call: pruning, spectral_norm, weight_norm."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

TRAINED = """
import warnings
import torch
from torch import nn
from torch.nn.utils import prune
warnings.simplefilter("ignore")
class Thirds(prune.BasePruningMethod):
    PRUNING_TYPE = "unstructured"
    def compute_mask(self, t, default_mask):
        mask = default_mask.clone()
        mask[::3] = 0
        return mask
torch.manual_seed(0)
layer, head = nn.Linear(4, 4), nn.Linear(4, 1)
HOW
optimizer = torch.optim.SGD([*layer.parameters(), *head.parameters()], lr=0.1)
for step in range(4):
    loss = head(layer(torch.randn(8, 4))).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        WRITE  # written
print(loss.item())
"""
PRUNED = "prune.random_unstructured(layer, 'weight', 0.3)"
CLAMPED = "layer.weight.clamp_(-0.1, 0.1)"


def found(how: str, write: str) -> list[tuple[int, str]]:
    answers = build(recorded(TRAINED.replace("HOW", how).replace("WRITE", write))).answers
    return [(one.causes[0].line, one.text) for one in answers if one.code == "write-lost"]


@pytest.mark.parametrize(
    ("how", "write"),
    [
        (PRUNED, CLAMPED),
        (PRUNED, "layer.weight.data.clamp_(-0.1, 0.1)"),
        (PRUNED, "layer.weight.copy_(layer.weight.clamp(-0.1, 0.1))"),
        (PRUNED, "layer.weight.data = layer.weight.data.clamp(-0.1, 0.1)"),
        (PRUNED, "for part in (layer, head): part.weight.div_(part.weight.norm())"),
        ("prune.identity(layer, 'weight')", CLAMPED),
        ("prune.global_unstructured([(layer, 'weight')], pruning_method=prune.L1Unstructured, amount=0.3)", CLAMPED),
        (f"{PRUNED}; prune.l1_unstructured(layer, 'weight', 0.3)", CLAMPED),
        ("Thirds.apply(layer, 'weight')", CLAMPED),
        ("nn.utils.spectral_norm(layer)", CLAMPED),
        ("nn.utils.weight_norm(layer)", CLAMPED),
    ],
)
def test_after_a_call_of_the_layer(how: str, write: str) -> None:
    source = TRAINED.replace("HOW", how).replace("WRITE", write)
    assert [line for line, _ in found(how, write)] == [line_of(source, "# written")]


def test_it_is_called_as_the_program_calls_it() -> None:
    ((_, text),) = found(PRUNED, "kept = layer.weight; kept.mul_(0.9)")
    assert "writes into kept, which" in text


@pytest.mark.parametrize(
    ("how", "write"),
    [
        ("pass", CLAMPED),
        (PRUNED, "layer.weight_orig.clamp_(-0.1, 0.1)"),
        (PRUNED, f"layer.weight_orig.clamp_(-0.1, 0.1); {CLAMPED}"),
        (PRUNED, "print(layer.weight.clamp_(-0.1, 0.1).norm())"),
        (f"{PRUNED}; prune.remove(layer, 'weight')", CLAMPED),
        (PRUNED, "head.weight.clamp_(-0.1, 0.1)"),
        (f"{PRUNED}; prune.remove(layer, 'weight')", "out = layer(torch.ones(4, 4)); out.mul_(2)"),
    ],
)
def test_what_is_not_lost(how: str, write: str) -> None:
    assert not found(how, write)

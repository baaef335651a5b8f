"""A straight-through estimate in the loss that was to train what it shows: a codebook without a gradient."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

QUANTIZED = """
import torch
encoder, codes = torch.nn.Linear(3, 2), torch.nn.Parameter(torch.eye(2))
optimizer = torch.optim.SGD([*encoder.parameters(), codes], lr=0.1)
def quantize(z):
    code = codes[torch.cdist(z.detach(), codes.detach()).argmin(1)]
    return code, z + (code - z).detach()
for _ in range(3):
    z = encoder(torch.randn(8, 3))
    code, estimate = quantize(z)
    loss = estimate.square().mean() + torch.nn.functional.mse_loss(estimate, z.detach())  # compares
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def unreached(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]


@pytest.mark.parametrize("term", ["mse_loss(estimate, z.detach())", "relu((estimate - z.detach()).square()).mean()"])
def test_the_line_that_compares_the_estimate_is_the_cause(term: str) -> None:
    source = QUANTIZED.replace("mse_loss(estimate, z.detach())", term)
    (answer,) = unreached(source)
    assert answer.causes[0].line == line_of(source, "# compares")
    assert "compares a straight-through estimate with z, cut off" in answer.text


def test_a_codebook_that_its_own_term_trains_has_its_gradient_and_one_without_a_term_is_cut_by_the_estimate() -> None:
    assert unreached(QUANTIZED.replace("mse_loss(estimate, z", "mse_loss(code, z")) == []
    (answer,) = unreached(QUANTIZED.replace("mse_loss(estimate, z.detach())", "mse_loss(z, code.detach())"))
    assert "compares" not in answer.text

"""A tensor that is cut off in two terms that are the same: the cut of the term whose target is followed is named."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

QUANTISED = """
import torch
import torch.nn.functional as F
encoder, codes = torch.nn.Linear(3, 2), torch.nn.Embedding(4, 2)
optimizer = torch.optim.Adam([*encoder.parameters(), *codes.parameters()])
for step in range(3):
    z = encoder(torch.randn(5, 3))
    q = codes(torch.cdist(z, codes.weight).argmin(1))
    {}
    {}
    loss = first + 0.25 * second + (z + (q - z).detach()).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize("loss", ["mse_loss", "smooth_l1_loss"])
@pytest.mark.parametrize("is_first", [False, True])
def test_the_term_whose_target_is_followed_is_named(loss: str, is_first: bool) -> None:
    terms = [f"F.{loss}(z, q.detach())", f"F.{loss}(q.detach(), z)  # wrong"]
    if is_first:
        terms.reverse()
    source = QUANTISED.format(f"first = {terms[0]}", f"second = {terms[1]}")
    (told,) = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    assert told.causes[0].line == line_of(source, "# wrong")


def test_where_each_side_is_cut_off_once_nothing_is_told() -> None:
    source = QUANTISED.format("first = F.mse_loss(z, q.detach())", "second = F.mse_loss(q, z.detach())")
    assert "leaf-unreached" not in [one.code for one in build(recorded(source)).answers]

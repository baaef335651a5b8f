"""Cuts by calls that give a value with a graph and indices without: they are counted where the answers tell of them."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SELECTS = """
import torch
router, expert = torch.nn.Linear(4, 3), torch.nn.Linear(4, 2)
for step in range(2):
    x = torch.ones(5, 4)
    logits = router(x)
    chosen = {}  # select
    out = expert(x) * (chosen == 0).reshape(-1, 1)
    {}out.sum().backward()
print(router.weight.grad)
"""
INDICES = ["logits.topk(1, dim=-1).indices", "logits.sort(dim=-1)[1][:, :1]", "logits.max(dim=-1, keepdim=True)[1]"]


@pytest.mark.parametrize("how", INDICES)
def test_a_cut_that_an_answer_tells_of_is_one_of_those_counted(how: str) -> None:
    source = SELECTS.format(how, "")
    report = build(recorded(source))
    line = line_of(source, "# select")
    assert any(f"cut at line {line}" in answer.text for answer in report.answers)
    assert [(cut.place.line, cut.kind, cut.executions) for cut in report.cuts] == [(line, "not_differentiable", 2)]
    assert report.summary.cuts == 1


@pytest.mark.parametrize("how", INDICES)
def test_what_is_used_for_its_values_too_is_none(how: str) -> None:
    source = SELECTS.format(how, "(logits.topk(1).values.sum() + out.sum()).backward()  # ")
    source = source.replace("    chosen =", "    picked = logits.topk(1)\n    chosen = picked.indices if True else")
    source = source.replace("logits.topk(1).values.sum()", "picked.values.sum()")
    assert not build(recorded(source)).cuts

"""What is said of memory behind a no_grad() that nothing entered: that statement, and nothing else."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

PROGRAM = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 8))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def run(x):
    scaled = lambda value: value.exp() * 2
    return scaled(model(x))
def fit():
    kept = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = run(torch.randn(512, 64)).mean()
        loss.backward()
        optimizer.step()
        {train}
    return kept
def validate():
    {off}
    model.eval()
    results = []
    for _ in range(6):
        results.append(run(torch.randn(512, 64)))
    total = torch.cat(results).mean()
    model.train()
    return results
"""
OF_MEMORY = ("saved-in-vain", "memory-kept-by-graph", "evaluated-with-graph")


def codes(off: str, calls: str, train: str = "pass") -> list[str]:
    source = PROGRAM.format(off=off, train=train) + calls
    return [one.code for one in build(recorded(source)).answers if one.code in (*OF_MEMORY, "context-not-entered")]


@pytest.mark.parametrize("calls", ["validate()", "kept = validate()", "fit()\nkept = validate()"])
@pytest.mark.parametrize("off", ["torch.no_grad()", "torch.inference_mode()"])
def test_the_statement_that_enters_nothing_is_the_only_answer(off: str, calls: str) -> None:
    assert codes(off, calls) == ["context-not-entered"]
    assert set(codes("pass", calls)) & set(OF_MEMORY)


def test_what_runs_elsewhere_is_still_said() -> None:
    said = codes("torch.no_grad()", "validate()\nkept = fit()", train="kept.append(run(torch.randn(512, 64)))")
    assert "context-not-entered" in said
    assert set(said) & set(OF_MEMORY)


CALLS_ONLY = """
def collect():
    torch.no_grad()
    model.eval()
    results = []
    for x in data:
        results.append(run(x))
    model.train()
    return results
data = list(torch.randn(6, 512, 64).unbind())
fit()
kept = collect()
print(torch.cat(kept).mean())
"""


def test_a_block_that_only_calls_functions_is_told_by_what_its_lines_look_up() -> None:
    source = PROGRAM.format(off="pass", train="pass") + CALLS_ONLY
    said = [one.code for one in build(recorded(source)).answers]
    assert [code for code in said if code in (*OF_MEMORY, "context-not-entered")] == ["context-not-entered"]

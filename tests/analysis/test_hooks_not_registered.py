"""Hooks under the condition that a tensor requires grad, where it never does, and where that is meant."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch import nn
class Table:
    def __init__(self):
        self.data, self.pending, self.kept = torch.randn(10, 3), [], {}
    def note(self, grad):
        self.pending.append(grad)
    def fetch(self, ids):
        rows = self.data[ids]  # here
        if rows.requires_grad:
            rows.register_hook(self.note)
        return rows
table, layer = Table(), nn.Linear(3, 1)
for step in range(3):
    layer(table.fetch(torch.randint(0, 10, (5,)))).sum().backward()
"""


def said(*changes: tuple[str, str]) -> tuple[list[int], str]:
    source = SOURCE
    for change in changes:
        assert change[0] in source
        source = source.replace(*change)
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "hook-not-registered"], source


@pytest.mark.parametrize(
    "changes",
    [
        (),
        (("self.note)", "lambda grad: self.pending.append((ids, grad)))"),),
        (("if rows.requires_grad:", "if torch.is_grad_enabled() and rows.requires_grad:"),),
        (("        if rows.requires_grad:\n    ", "        if not rows.requires_grad:\n            return rows\n"),),
        (("self.pending.append(grad)", "self.kept['rows'] = grad"),),
    ],
)
def test_the_line_that_gives_the_tensor_is_the_cause(changes: tuple[tuple[str, str], ...]) -> None:
    lines, source = said(*changes)
    assert lines == [line_of(source, "# here")]


@pytest.mark.parametrize(
    "change",
    [
        ("self.data[ids]", "self.data[ids].requires_grad_()"),
        ("self.data[ids]", "self.data[ids].requires_grad_(torch.is_grad_enabled())"),
        ("torch.randn(10, 3), [], {}", "torch.randn(10, 3, requires_grad=True), [], {}"),
        # (a hook that only changes the gradient misses nothing; who freezes a layer means it)
        ("self.note)", "lambda grad: grad.clamp(-1, 1))"),
        ("self.data[ids]", "nn.Embedding(10, 3).requires_grad_(False)(ids)"),
        ("if rows.requires_grad:", "if len(rows) > 9:"),
        (".sum().backward()", ".sum()"),
        (
            "rows = self.data[ids]",
            "rows = self.data[ids].requires_grad_(len(self.kept) > 1); self.kept[len(self.kept)] = 1",
        ),
    ],
)
def test_what_is_registered_or_not_missed(change: tuple[str, str]) -> None:
    assert said(change)[0] == []

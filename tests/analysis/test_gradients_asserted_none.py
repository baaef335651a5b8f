"""A program that asserts that gradients are None, and goes on, is not surprised by it."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """
import torch
w, v = (torch.ones(3, requires_grad=True) for _ in range(2))
(w.detach() * v).sum().backward()
{}
"""


@pytest.mark.parametrize(
    ("statement", "severity"),
    [
        ("assert w.grad is None", "note"),
        ("assert all(p.grad is None for p in [w])", "note"),
        ("assert w.grad is not None", "problem"),
        ("print(w.grad)", "problem"),
    ],
)
def test_what_is_asserted_and_holds_is_a_note(statement: str, severity: str) -> None:
    answers = build(recorded(SOURCE.format(statement))).answers
    assert [one.severity for one in answers if one.code == "grad-none-unreached"] == [severity]

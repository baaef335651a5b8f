"""Statements that ask which gradients are None."""

import pytest

from gradscope.frames.none_checks import asks_for_none


@pytest.mark.parametrize(
    ("statement", "asks"),
    [
        ("print(all(p.grad is None for p in teacher.parameters()))", "checks"),
        ("found = any(p.grad is not None for p in teacher.parameters())", "checks"),
        ("assert w.grad is None", "checks"),
        ("resting = [n for n, p in model.named_parameters() if p.grad is None]", "lists"),
        ("print(w.grad is None)", ""),
        ("print(w.grad)", ""),
        ("total = sum(p.grad.norm() for p in model.parameters() if p.grad is not None)", ""),
    ],
)
def test_how_a_statement_asks(statement: str, asks: str) -> None:
    assert asks_for_none(f"import torch\n{statement}\n", 2) == asks

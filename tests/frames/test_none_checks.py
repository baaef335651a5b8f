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
        ("for p in model.parameters():\n    if p.grad is None:\n        continue", "lists"),
        ("for n, p in model.named_parameters():\n    if p.grad is not None and n:\n        print(p.grad)", "lists"),
        ("for p in model.parameters():\n    if w.grad is None:\n        print(p)", ""),
        ("for p in model.parameters():\n    if p.grad.norm() > 1:\n        print(p)", ""),
        ("if w.grad is None:\n    print(w)", ""),
        ("print(w.grad is None)", ""),
        ("print(w.grad)", ""),
        ("total = sum(p.grad.norm() for p in model.parameters() if p.grad is not None)", ""),
    ],
)
def test_how_a_statement_asks(statement: str, asks: str) -> None:
    line = 3 if statement.startswith("for ") else 2
    assert asks_for_none(f"import torch\n{statement}\n", line) == asks

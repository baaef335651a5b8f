"""Statements that ask which gradients are None."""

import pytest

from gradscope.frames.values.none_checks import asks_for_none


@pytest.mark.parametrize(
    ("statement", "asks"),
    [
        ("print(all(p.grad is None for p in teacher.parameters()))", "checks"),
        ("found = any(p.grad is not None for p in teacher.parameters())", "checks"),
        ("assert w.grad is None", "checks"),
        ("resting = [n for n, p in model.named_parameters() if p.grad is None]", "lists"),
        ("if w.grad is None:\n    print(w)", ""),
        ("print(w.grad is None)", ""),
        ("print(w.grad)", ""),
        ("total = sum(p.grad.norm() for p in model.parameters() if p.grad is not None)", "guards"),
        ("grads = {n: p.grad for n, p in ps if p.requires_grad and p.grad is not None}", "guards"),
        ("norms = {n: 0.0 if p.grad is None else p.grad.norm() for n, p in ps}", "guards"),
        ("norms = {n: 0.0 if p.grad is None else q.grad.norm() for n, p, q in ps if q.grad.any()}", ""),
        ("norm = 0.0 if w.grad is None else w.grad.norm()", ""),
        ("total = sum(p.grad.norm() for p in model.parameters() if p.requires_grad)", ""),
        ("total = sum(q.grad.norm() for p, q in pairs if p.grad is not None)", ""),
    ],
)
def test_how_a_statement_asks(statement: str, asks: str) -> None:
    assert asks_for_none(f"import torch\n{statement}\n", 2) == asks


@pytest.mark.parametrize(
    ("condition", "body", "asks"),
    [
        ("p.grad is not None", "p.add_(p.grad)", "guards"),
        ("p.requires_grad and p.grad is not None", "p.add_(p.grad)", "guards"),
        ("p.grad is None", "continue", "guards"),
        ("p.grad is None", "print('none for', p)", "lists"),
        ("p.grad is not None or strict", "p.add_(p.grad)", "lists"),
        ("w.grad is None", "print(p)", ""),
        ("p.grad.norm() > 1", "p.add_(p.grad)", ""),
        ("p.grad is not None", "good.append(p)\n    else:\n        bad.append(p)", "lists"),
    ],
)
def test_how_a_condition_in_a_loop_asks(condition: str, body: str, asks: str) -> None:
    assert asks_for_none(f"for p in ps:\n    if {condition}:\n        {body}\n", 2) == asks


def test_a_loop_that_says_something_else_where_there_is_none_asks() -> None:
    loop = "for p in ps:\n    print(p, 'none' if {0}.grad is None else {0}.grad.norm())\n"
    assert [asks_for_none(loop.format(name), 2) for name in ("p", "w")] == ["guards", ""]


def test_a_condition_outside_of_a_loop_asks_about_one() -> None:
    assert asks_for_none("if w.grad is not None:\n    print(w.grad)\n", 1) == ""

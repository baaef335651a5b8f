"""Statements that ask which gradients are None."""

import pytest

from gradscope.frames.values.none_checks import asks_for_none


@pytest.mark.parametrize(
    ("statement", "asks"),
    [
        ("print(all(p.grad is None for p in teacher.parameters()))", "checks"),
        ("found = any(p.grad is not None for p in teacher.parameters())", "checks"),
        ("assert w.grad is None", "wants"),
        ("assert all(p.grad is None for p in ps)", "wants"),
        ("assert not any(p.grad is None for p in ps)", "checks"),
        ("assert w.grad is not None", "checks"),
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


IN_A_LOOP = "for n, p in enumerate(ps):\n    {}\n"
BY_A_FUNCTION = "def norm(g, w):\n    return 0 if g is None else g.norm()\n\nfor p in ps:\n    {}\n"


@pytest.mark.parametrize(
    ("of_each", "of_one", "asks"),
    [
        ("idle[n] += p.up.weight.grad is None", "idle[n] += w.up.weight.grad is None", "lists"),
        ("idle[n] += experts[n].weight.grad is None", "idle[n] += w.weight.grad is None", "lists"),
        ("weight = p.weight\n    idle[n] += weight.grad is None", "idle[n] += weight.grad is None", "lists"),
        ("print(n, p.grad is None)", "print(n, w.grad is None)", "lists"),
        ("print(n, isinstance(p.grad, Tensor))", "print(n, isinstance(p.grad.norm(), Tensor))", "lists"),
        ("idle[n] += getattr(p, 'grad', None) is None", "idle[n] += getattr(p, 'grad', None).isnan().sum()", "lists"),
        ("g = p.grad\n    if g is None: continue", "g = w.grad\n    if g is None: continue", "guards"),
        ("g = p.grad\n    if g is None: continue", "g = p.grad\n    if h is None: continue", "guards"),
        ("g, m = p.grad, n\n    if g is None: continue", "m, g = p.grad, n\n    if g is None: continue", "guards"),
        ("if (g := p.grad) is not None: g.mul_(2)", "if (g := p.grad).norm() > 1: g.mul_(2)", "guards"),
        (
            "seen[n] = p.grad\n    if seen[n] is None: continue",
            "seen[n] = p.grad\n    if n is None: continue",
            "guards",
        ),
    ],
)
def test_what_is_asked_of_each_of_several(of_each: str, of_one: str, asks: str) -> None:
    def found(body: str) -> str:
        text = IN_A_LOOP.format(body)
        return asks_for_none(text, next(at for at, line in enumerate(text.split("\n"), 1) if "grad" in line))

    assert (found(of_each), found(of_one)) == (asks, "")


@pytest.mark.parametrize(
    ("provided", "not_provided"),
    [
        ("total += norm(p.grad, p)", "total += norm(p, p.grad)"),
        ("total += norm(g=p.grad, w=p)", "total += norm(g=p, w=p.grad)"),
    ],
)
def test_a_function_that_takes_none_as_well(provided: str, not_provided: str) -> None:
    found = [asks_for_none(BY_A_FUNCTION.format(one), 5) for one in (provided, not_provided)]
    assert found == ["guards", ""]


@pytest.mark.parametrize(
    ("reads", "asked", "not_asked"),
    [
        (
            "grads = [p.grad for p in ps]",
            "sum(g.norm() for g in grads if g is not None)",
            "sum(g.norm() for g in grads)",
        ),
        (
            "grads = [p.grad for p in ps]",
            "for p, g in zip(ps, grads):\n    if g is None:\n        continue",
            "print(g)",
        ),
        ("grads = (p.grad for p in ps)", "grads = filter(lambda g: g is not None, grads)", "grads = list(grads)"),
    ],
)
def test_gradients_put_into_a_list(reads: str, asked: str, not_asked: str) -> None:
    assert [asks_for_none(f"{reads}\n{after}\n", 1) for after in (asked, not_asked)] == ["guards", ""]


@pytest.mark.parametrize(
    ("body", "asks"), [("return not p.grad is None", "lists"), ("print(p.grad is None)", ""), ("return p.grad", "")]
)
def test_what_a_function_asks_of_what_it_is_given(body: str, asks: str) -> None:
    """What it only prints of one may be all that somebody wants to know."""
    assert asks_for_none(f"def touched(p):\n    {body}\n", 2) == asks


def test_a_round_of_training_asks_about_one() -> None:
    assert asks_for_none("for step in range(9):\n    step_loss = w.sum()\n    print(w.grad is None)\n", 3) == ""

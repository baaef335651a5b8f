"""Gradients asked for between two results of one compiled function."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

PROGRAM = """import torch
w = torch.ones(3, requires_grad=True)
def parts(x):
    inner = (x * w).exp()
    return inner.sum(), inner
fast = torch.compile(parts, backend="aot_eager")
total, inner = fast(torch.ones(3))
score = total * 2
"""


def causes(asks: str, program: str = PROGRAM) -> dict[str, list[int]]:
    answers = build(recorded(program + asks)).answers
    return {one.code: [cause.line for cause in one.causes] for one in answers if "one compiled function" in one.text}


@pytest.mark.parametrize(
    ("asks", "told"),
    [
        (
            "try:\n    torch.autograd.grad(score, inner)\nexcept RuntimeError:\n    raise\n",
            {"asked-for-gradient": [6, 10]},
        ),
        ("torch.autograd.grad(score, inner, allow_unused=True)", {"asked-for-gradient": [6, 9]}),
        ("inner.retain_grad()\nscore.backward()\nprint(inner.grad)", {"grad-none-unreached": [6]}),
    ],
)
def test_the_line_that_compiles_is_named(asks: str, told: dict[str, list[int]]) -> None:
    assert causes(asks) == told


@pytest.mark.parametrize(
    "asks",
    [
        "torch.autograd.grad(score + inner.sum(), inner)",
        "torch.autograd.grad(score, total)",
        "score.backward()\nprint(w.grad)",
    ],
)
def test_a_result_that_the_root_was_made_from_has_a_gradient(asks: str) -> None:
    assert causes(asks) == {}


def test_results_of_two_compiled_functions() -> None:
    program = PROGRAM.replace(
        "total, inner = fast(torch.ones(3))", "total, _ = fast(torch.ones(3))\n_, inner = fast(w)"
    )
    assert causes("torch.autograd.grad(score, inner, allow_unused=True)", program) == {}

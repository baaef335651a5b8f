"""A custom Function whose backward gives NaN, seen with --nan: the line of its backward that computes it is named."""

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).float()
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        given = grad * torch.exp(-25 * x) / (torch.exp(-25 * x) + 1) ** 2
        return given
x = torch.tensor([{}], requires_grad=True)
Spike.apply(x * 2).sum().backward()
"""


def found(value: str) -> list[int]:
    answers = build(recorded(SOURCE.format(value), nan=True)).answers
    return [cause.line for one in answers if one.code == "gradient-not-finite" for cause in one.causes]


def test_the_line_of_backward_is_named_first() -> None:
    source = SOURCE.format("-9.0")
    assert found("-9.0") == [line_of(source, "given ="), line_of(source, "Spike.apply")]
    assert not found("0.5")

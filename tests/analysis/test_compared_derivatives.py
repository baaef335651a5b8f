"""A backward whose gradient is another than autograd's for the calls of its forward, as the run compares them."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

CODE = "backward-differs-from-forward"


def answers(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == CODE]


def lines(answer: Answer) -> list[int]:
    return [cause.line for cause in answer.causes]


HELPERS = """
import torch
def density(x):
    return (-0.5 * x * x).exp()
class Price(torch.autograd.Function):
    @staticmethod
    def forward(ctx, vol, strike):
        d1 = (strike.log() + 0.5 * vol * vol) / vol
        d2 = d1 - vol
        ctx.save_for_backward(vol, strike, d1, d2)
        return density(d1) * strike
    @staticmethod
    def backward(ctx, grad_out):
        vol, strike, d1, d2 = ctx.saved_tensors
        slope = -d1 * density({}) * strike * (0.5 - strike.log() / vol ** 2)
        return grad_out * slope, None
vol = torch.linspace(0.2, 0.9, 8).requires_grad_()
Price.apply(vol, torch.linspace(0.5, 1.5, 8)).pow(2).sum().backward()
"""


def test_a_wrong_value_of_a_helper_is_found_and_the_statement_that_computes_it_is_named() -> None:
    source = HELPERS.format("d2")
    (answer,) = answers(source)
    assert "Price's backward gives another gradient than that of its forward for vol: in this run it was" in answer.text
    assert lines(answer) == [line_of(source, "slope = "), line_of(source, "return grad_out")]
    assert not answers(HELPERS.format("d1"))


SOFTMAX = """
import torch
class Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores, values):
        weights = torch.softmax(scores, dim=-1)
        ctx.save_for_backward(weights, values)
        return weights @ values
    @staticmethod
    def backward(ctx, grad_out):
        weights, values = ctx.saved_tensors
        grad_weights = grad_out @ values.t()
        grad_scores = weights * {}
        return grad_scores, weights.t() @ grad_out
torch.manual_seed(0)
scores, values = torch.randn(5, 6, requires_grad=True), torch.randn(6, 3, requires_grad=True)
Attend.apply(scores, values).pow(2).sum().backward()
"""


def test_a_term_that_mixes_elements_is_missed() -> None:
    source = SOFTMAX.format("grad_weights")
    (answer,) = answers(source)
    assert lines(answer) == [line_of(source, "grad_scores = "), line_of(source, "return grad_scores")]
    assert "for scores" in answer.text
    assert "values" not in answer.text
    assert not answers(SOFTMAX.format("(grad_weights - (weights * grad_weights).sum(dim=-1, keepdim=True))"))


LINEAR = """
import torch
class Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight{more}):
        ctx.save_for_backward(x, weight{more})
        return x @ weight
    @staticmethod
    def backward(ctx, grad_out):
        x, weight, *more = ctx.saved_tensors
        return grad_out @ {back}, x.t() @ grad_out{none}
torch.manual_seed(0)
x, weight, other = (torch.randn(4, 4) for _ in range(3))
Project.apply(x.requires_grad_(), weight.requires_grad_(){given}).pow(2).sum().backward()
"""


def test_a_square_matrix_that_is_not_transposed_is_found_and_a_matrix_that_is_given_for_the_way_back_is_meant() -> None:
    source = LINEAR.format(more="", back="weight", none="", given="")
    (answer,) = answers(source)
    assert lines(answer) == [line_of(source, "return grad_out @")]
    assert not answers(LINEAR.format(more="", back="weight.t()", none="", given=""))
    assert not answers(LINEAR.format(more=", feedback", back="more[0].t()", none=", None", given=", other"))


OTHER = """
import torch
def right(x):
    return x.sin() / x - (1 - x.cos()) / x ** 2
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        {forward}
    @staticmethod
    def backward(ctx, grad_out):
        (x,) = ctx.saved_tensors
        {backward}
torch.manual_seed(0)
x = torch.randn(6, 5, requires_grad=True)
F.apply(x * 2).pow(3).sum().backward()
"""


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        ("return x / x.norm(dim=1, keepdim=True)", "return grad_out / x.norm(dim=1, keepdim=True)"),
        ("return torch.logsumexp(x, dim=1)", "return grad_out[:, None] * torch.softmax(x, dim=0)"),
        ("return x.detach().exp().mean(dim=1)", "return grad_out[:, None] * x.exp()"),
    ],
)
def test_wrong_formulas_over_several_elements(forward: str, backward: str) -> None:
    source = OTHER.format(forward=forward, backward=backward)
    (answer,) = answers(source)
    assert lines(answer) == [line_of(source, backward)]


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        ("return torch.round(x.exp())", "return grad_out * 0.3 * x"),  # it steps
        ("return (x.tanh() > 0.2).float() * x.exp()", "return grad_out * x.tanh()"),
        ("return x.sigmoid()", "return grad_out"),  # passed on
        ("return x.sigmoid()", "return -0.5 * grad_out"),
        ("return x.exp()", "return (grad_out * x.exp()).clamp(-0.1, 0.1)"),  # clipped
        ("return x.exp()", "return grad_out * x.exp() * (x < 0.1)"),  # masked
        ("return x * 3", "return grad_out * x.abs()"),  # a factor alone: it is scaled
        ("return x.sqrt().nan_to_num()", "return grad_out * x"),  # not to be called again
        ("return x.exp() + torch.rand_like(x)", "return grad_out * x"),
        ("return x.exp().add_(1)", "return grad_out * x"),
        ("return x.exp()", "return grad_out * x.exp() * 1.03"),  # near
        (
            "for _ in range(9):\n            x = x - (x.exp() - 2) / x.exp()\n        return x",
            "return grad_out * x.exp()",
        ),
        ("return torch.from_numpy(x.numpy()).exp()", "return grad_out * x"),
        ("return x / x.norm(dim=1, keepdim=True).detach()", "return grad_out / x.norm(dim=1, keepdim=True)"),
        ("y = x.exp()\n        return y", "g = grad_out * x.exp().sqrt()\n        return g / g.norm()"),  # rescaled
        ("ctx.slope = 0.5 if x.dim() else 1\n        return (1 - x.cos()) / x", "return grad_out * right(x)"),
    ],
)
def test_what_is_meant_to_differ_or_is_not_known_is_not_said(forward: str, backward: str) -> None:
    assert not answers(OTHER.format(forward=forward, backward=backward))


LOOP = """
import torch
class Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        found = [x]
        for _ in range({turns}):
            x = torch.tanh(x @ w)
            found.append(x)
        ctx.save_for_backward(w, *found)
        return x
    @staticmethod
    def backward(ctx, gradient):
        w, *found = ctx.saved_tensors
        of_w = torch.zeros_like(w)
        for before, after in zip(found[-2::-1], found[:0:-1]):
            gradient = gradient * (1 - after ** 2)
            of_w = of_w + before.t() @ gradient
            gradient = gradient @ w.t()
        return gradient, of_w
torch.manual_seed(0)
w = torch.randn(3, 3, requires_grad=True)
for _ in range(4):
    Chain.apply(torch.randn(4, 3), w).pow(3).sum().backward()
"""


@pytest.mark.parametrize("turns", [1, 3, 4, 5, 7, 11, 20])
def test_a_right_backward_of_a_loop_is_no_other_derivative(turns: int) -> None:
    assert not answers(LOOP.format(turns=turns))


SCALED = """
import torch
class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, {name}):
        ctx.{name}, ctx.x = {name}, x
        return torch.tanh(x{uses}).sum(dim=0)
    @staticmethod
    def backward(ctx, gradient):
        return gradient * (1 - torch.tanh(ctx.x{again}) ** 2) * ctx.{name} * 2, None
x = torch.randn(4, 3, requires_grad=True)
(Scaled.apply(x, 0.5) * torch.randn(3)).sum().backward()
"""


def test_an_argument_that_forward_keeps_for_backward_alone_is_another_factor_on_purpose() -> None:
    assert not answers(SCALED.format(name="back", uses="", again=""))
    assert answers(SCALED.format(name="slope", uses=" * slope", again=" * ctx.slope"))


def test_a_program_does_not_notice_that_its_forward_was_called_again() -> None:
    recording = recorded("""
    import torch
    from torch.nn import functional as F
    calls = []
    def counted(function):
        def counts(*args, **kwargs):
            calls.append(function.__name__)
            return function(*args, **kwargs)
        return counts
    class Mixed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return F.softmax(x, dim=-1).exp()
        @staticmethod
        def backward(ctx, grad_out):
            (x,) = ctx.saved_tensors
            return grad_out * x.exp()
    x = torch.randn(3, 4, requires_grad=True)
    before = F.softmax, torch.autograd.grad
    F.softmax, torch.autograd.grad = map(counted, before)
    for _ in range(3):
        out = Mixed.apply(x)
        out.sum().backward()
    F.softmax, torch.autograd.grad = before
    assert calls == ["softmax"] * 3, calls
    """)
    assert recording.info.outcome.kind == "ok"
    assert len(recording.backwards) == 3

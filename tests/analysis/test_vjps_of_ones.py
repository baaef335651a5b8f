"""A backward that multiplies a vector-Jacobian product with ones by what comes in: told where elements are mixed."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

ANEW = """
import torch
def model(x):
    return MODEL
class Anew(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return model(x)
    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            BACKWARD
mixing = torch.rand(4, 4)
w = torch.rand(SHAPE, requires_grad=True)
aim = torch.rand(SHAPE)
y = Anew.apply(w * 2)
LOSS.backward()
"""
ONES = """y = model(x)
            (slope,) = torch.autograd.grad(y, x, torch.ones_like(y))  # asked
        return slope * grad_output"""
OF_SUM = """slope = torch.autograd.grad(model(x).sum(), x)[0]  # asked
        return grad_output * slope"""
FUNC = """_, vjp_fn = torch.func.vjp(model, x)
            ones = torch.ones(grad_output.shape)
            slopes = vjp_fn(ones)  # asked
        return tuple(grad_output.mul(one) for one in slopes)"""
RIGHT = """y = model(x)
            (slope,) = torch.autograd.grad(y, x, grad_output)  # asked
        return slope"""
SQUARED = "(y - aim).pow(2).mean()"


def lines(source: str) -> list[list[int]]:
    answers = [one for one in build(recorded(source)).answers if one.severity != "note"]
    assert all(one.code == "backward-differs-from-forward" for one in answers)
    return [[cause.line for cause in one.causes] for one in answers]


def anew(model: str, backward: str, loss: str = SQUARED, shape: str = "4") -> str:
    source = ANEW.replace("BACKWARD", backward).replace("LOSS", loss).replace("SHAPE", shape)
    return source.replace("MODEL", model)


@pytest.mark.parametrize("backward", [ONES, OF_SUM, FUNC])
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("torch.tanh(mixing @ x)", "4"),
        ("torch.tanh(x).cumsum(0)", "4"),
        ("torch.nn.functional.linear(x.sin(), mixing)", "3, 4"),
        ("torch.linalg.solve(mixing + torch.diag(x), torch.ones(4))", "4"),
    ],
)
def test_ones_for_what_comes_in_where_forward_mixes(model: str, shape: str, backward: str) -> None:
    source = anew(model, backward, shape=shape)
    assert lines(source) == [[line_of(source, "# asked"), line_of(source, "# asked") + 1]]


@pytest.mark.parametrize(
    "source",
    [
        anew("torch.tanh(mixing @ x)", RIGHT),
        anew("torch.tanh(x) * x", ONES),
        anew("torch.stack([x, x**2], -1) @ torch.ones(2)", ONES),
        anew("torch.linalg.solve(torch.diag(x), torch.ones(4))", ONES),
        anew("torch.tanh(mixing @ x)", ONES, "y.sum()"),
        anew("torch.tanh(mixing @ x)", OF_SUM, "(y.mean() - 1).pow(2)"),
        anew("torch.nn.functional.linear(x, mixing).pow(2).sum(-1, keepdim=True)", ONES, "y.pow(2).sum()", "3, 4"),
        anew("torch.nn.functional.linear(x, mixing[:1, :1])", ONES, shape="4, 1"),
    ],
)
def test_what_is_right_or_evenly_weighted_or_goes_row_by_row_is_fine(source: str) -> None:
    assert lines(source) == []


SOLVER = """
import numpy as np
import torch
class Rod:
    def matrix(self, p):
        return np.eye(5, k=1) + np.eye(5, k=-1) + np.diag(p)
    def run(self, p):
        field = SOLUTION
        def vjp(v):
            return -np.linalg.solve(self.matrix(p).T, v) * field
        return field, vjp
def wrapped(function):
    class Solve(torch.autograd.Function):
        @staticmethod
        def forward(ctx, p):
            value, ctx.vjp = function(p.detach().numpy())
            return torch.from_numpy(value)
        @staticmethod
        def backward(ctx, g):
            RETURNED
    return Solve.apply
solve = wrapped(Rod().run)
w = torch.rand(5, dtype=torch.float64, requires_grad=True)
loss = (solve(w * 2) - 1).pow(2).sum()
loss.backward()
"""
SOLVED = "np.linalg.solve(self.matrix(p), np.ones(5))"
LATE = "return torch.from_numpy(ctx.vjp(np.ones(g.shape)) * g.numpy())  # returned"


@pytest.mark.parametrize("solution", [SOLVED, "np.cumsum(p * 2)", "self.matrix(np.ones(5)) @ p"])
def test_a_solver_in_numpy_by_what_its_source_says(solution: str) -> None:
    source = SOLVER.replace("SOLUTION", solution).replace("RETURNED", LATE)
    assert lines(source) == [[line_of(source, "# returned")]]


@pytest.mark.parametrize(
    ("solution", "returned"),
    [
        (SOLVED, "return torch.from_numpy(ctx.vjp(g.numpy()))"),
        ("np.tanh(p)", LATE),
        ("np.vander(p, 3) @ np.ones(3)", LATE),
        ("p * np.linalg.solve(self.matrix(np.ones(len(p))), np.ones(p.shape))", LATE),
    ],
)
def test_a_solver_that_is_given_it_or_goes_element_by_element_is_fine(solution: str, returned: str) -> None:
    assert lines(SOLVER.replace("SOLUTION", solution).replace("RETURNED", returned)) == []

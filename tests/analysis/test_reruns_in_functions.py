"""A custom Function whose backward runs again what its forward ran: with other random numbers, where none are kept."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """\
import torch
from torch import nn
class Rerun(torch.autograd.Function):
    @staticmethod
    def forward(ctx, run, x, *weights):
        ctx.run = run
        ctx.save_for_backward(x, *weights)
        KEEP
        with torch.no_grad():
            return run(x)
    @staticmethod
    def backward(ctx, grad):
        x, *weights = ctx.saved_tensors
        x = x.detach().requires_grad_()
        RESTORE
        with torch.enable_grad():
            out = CALL  # again
        return None, *torch.autograd.grad(out, [x, *weights], grad)
net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), LAYER, nn.Linear(4, 2))
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net
    def forward(self, x):
        x = self.net(x)
        return x
block = Block()
for step in range(2):
    x = torch.randn(5, 3, requires_grad=True)
    Rerun.apply(block, x, *block.parameters()).pow(2).mean().backward()
"""
DROP, CALL = "nn.Dropout(0.5)", "ctx.run(x)"


def named(layer: str = DROP, call: str = CALL, keep: str = "pass", restore: str = "pass", head: str = "") -> list[int]:
    program = PROGRAM.replace("LAYER", layer).replace("CALL", call).replace("KEEP", keep).replace("RESTORE", restore)
    program = program.replace("block = Block()", f"block = Block(){head}")
    found = [one for one in build(recorded(program)).answers if one.code == "checkpoint-draws-anew"]
    assert all([cause.line for cause in one.causes] == [line_of(program, "# again")] for one in found)
    return [cause.line for one in found for cause in one.causes]


@pytest.mark.parametrize(("call", "restore"), [(CALL, "pass"), ("run(x)", "run = ctx.run")])
def test_the_second_run_is_named(call: str, restore: str) -> None:
    assert named(call=call, restore=restore)


@pytest.mark.parametrize(
    "given",
    [
        {"layer": "nn.Dropout(0.0)"},
        {"layer": "nn.ReLU()"},
        {"head": ".eval()"},
        {"keep": "ctx.state = torch.get_rng_state()", "restore": "torch.set_rng_state(ctx.state)"},
    ],
    ids=["none-dropped", "no-dropout", "evaluation", "state-put-back"],
)
def test_what_draws_nothing_or_the_same_is_left_alone(given: dict[str, str]) -> None:
    assert named(**given) == []


ROUNDING = """\
import torch
def rounded(x):
    return (x * 8 + torch.rand_like(x)).floor() / 8
class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.rounded = rounded
        return rounded(x)
    @staticmethod
    def backward(ctx, grad):
        return ctx.rounded(grad)
x = torch.randn(5, requires_grad=True)
for _ in range(2):
    Rounded.apply(x).pow(2).sum().backward()
"""


def test_a_function_that_is_meant_to_draw_in_both_is_left_alone() -> None:
    assert not [one for one in build(recorded(ROUNDING)).answers if one.code == "checkpoint-draws-anew"]


PLAIN = """\
import torch
import torch.nn.functional as F
from torch import nn
class Couple(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, branch, *weights):
        ctx.branch, ctx.weights = branch, weights
        ctx.save_for_backward(x)
        with torch.no_grad():
            return branch(x)  # first
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            result = ctx.branch(leaf)  # again
        first, *others = torch.autograd.grad(result, (leaf, *ctx.weights), grad)
        return first, None, *others
branch = nn.Sequential(nn.Linear(3, 3), LAYER)
for step in range(3):
    x = torch.randn(5, 3, requires_grad=True)
    Couple.apply(x, branch, *branch.parameters()).pow(2).mean().backward()
"""


@pytest.mark.parametrize("layer", ["nn.Dropout(0.5)", "nn.Dropout1d(0.5)", "nn.AlphaDropout(0.4)"])
def test_layers_of_a_library_that_draw_at_the_lines_that_call_them_are_named(layer: str) -> None:
    source = PLAIN.replace("LAYER", layer)
    (answer,) = (one for one in build(recorded(source)).answers if one.code == "checkpoint-draws-anew")
    assert [cause.line for cause in answer.causes] == [line_of(source, "# again")]


@pytest.mark.parametrize(
    "change",
    [
        ("LAYER", "nn.Dropout(0.0)"),
        ("LAYER", "nn.Dropout(0.5).eval()"),
        # (what draws in forward alone is not run again)
        ("return branch(x)  # first", "return F.dropout(branch(x), 0.5)"),
        ("        with torch.enable_grad():", "        torch.manual_seed(0)\n        with torch.enable_grad():"),
    ],
)
def test_layers_that_draw_nothing_again_are_left_alone(change: tuple[str, str]) -> None:
    source = PLAIN.replace(*change).replace("LAYER", "nn.ReLU()" if "LAYER" not in change[0] else "")
    if "manual_seed" in change[1]:
        source = source.replace("nn.ReLU()", "nn.Dropout(0.5)")
    assert not [one for one in build(recorded(source)).answers if one.code == "checkpoint-draws-anew"]

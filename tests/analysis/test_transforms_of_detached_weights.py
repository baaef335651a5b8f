"""Losses that ``torch.func`` computes with detached parameters: the way from the result back to the cut is known."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """\
import torch
from torch import nn
from torch.func import functional_call, vmap, grad, jacrev, jacfwd, hessian
net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
def weights():
    return {n: p.detach() for n, p in net.named_parameters()}  # cut
for step in range(4):
    params = weights()
    x = torch.randn(8, 3)
    u = lambda q: functional_call(net, params, (q,)).squeeze(-1)
    term = CALL
    loss = LOSS
    opt.zero_grad()
    loss.backward()
    opt.step()
"""
CALLS = [
    "vmap(u)(x)",
    "vmap(grad(u))(x)",
    "grad(u)(x[0])",
    "vmap(jacrev(u))(x)",
    "vmap(jacfwd(u))(x)",
    "hessian(u)(x[0])",
    "vmap(hessian(u))(x).diagonal(dim1=1, dim2=2).sum(dim=1)",
]
BOTH, ALONE = "net(x).pow(2).mean() + term.pow(2).mean()", "term.pow(2).mean()"


def named(program: str) -> dict[str, list[int]]:
    codes = ("term-without-gradient", "backward-no-grad")
    return {one.code: [cause.line for cause in one.causes] for one in build(recorded(program)).answers
            if one.code in codes}  # fmt: skip


@pytest.mark.parametrize(("loss", "code"), [(BOTH, "term-without-gradient"), (ALONE, "backward-no-grad")])
@pytest.mark.parametrize("call", CALLS)
def test_the_line_that_detaches_the_parameters_is_named(call: str, loss: str, code: str) -> None:
    program = PROGRAM.replace("CALL", call).replace("LOSS", loss)
    assert named(program) == {code: [line_of(program, "# cut")]}
    assert named(program.replace("p.detach()", "p")) == {}


@pytest.mark.parametrize(
    "loss",
    [
        "(net(x).squeeze(-1) - term).pow(2).mean()",
        "net(x).pow(2).mean() * term.mean()",
        "net(x).pow(2).mean() + term.mean() * 0 + net(x).squeeze(-1).mul(term).mean()",
    ],
    ids=["target", "weight", "both"],
)
def test_what_is_a_target_or_a_weight_is_left_alone(loss: str) -> None:
    assert named(PROGRAM.replace("CALL", "vmap(u)(x)").replace("LOSS", loss)) == {}

"""Values of a trained temperature that were taken once, and weigh a loss after each of its steps."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PLAIN = """\
import torch
net, log_alpha = torch.nn.Linear(3, 2), torch.zeros((), requires_grad=True)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
opt_alpha = torch.optim.SGD([log_alpha], lr=0.1)
{before}
for step in range(6):
    out = net(torch.randn(5, 3))
    loss = {loss}
    opt.zero_grad(); loss.backward(); opt.step()
    alpha_loss = -(log_alpha * (out.detach().pow(2).mean() - 1))
    opt_alpha.zero_grad(); alpha_loss.backward(); opt_alpha.step()
    {after}
"""
AGENT = """\
import torch
class Agent:
    def __init__(self):
        self.net = torch.nn.Linear(3, 2)
        self.raw = torch.nn.Parameter(torch.zeros(2))
        self.opt = torch.optim.SGD(self.net.parameters(), lr=0.1)
        self.opt_raw = torch.optim.Adam([self.raw], lr=0.1)
        with torch.no_grad():
            self.lam = torch.nn.functional.softplus(self.raw)
    def update(self, x):
        out = self.net(x)
        loss = out.pow(2).mean() + (self.lam * out.abs().mean(0)).sum()
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        other = -(torch.nn.functional.softplus(self.raw) * (out.detach().abs().mean(0) - 0.1)).sum()
        self.opt_raw.zero_grad()
        other.backward()
        self.opt_raw.step()
        {}
agent = Agent()
for x in torch.randn(6, 5, 3):
    agent.update(x)
"""
LOSS = "(alpha * out.pow(2)).mean()"


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "stale-result"]


@pytest.mark.parametrize(
    "before",
    [
        "alpha = log_alpha.exp().detach()",
        "alpha = log_alpha.exp().item()",
        "with torch.no_grad(): alpha = log_alpha.exp()",
        "alpha = log_alpha.detach().clone()",
    ],
)
def test_what_was_taken_before_the_loop_is_told_of(before: str) -> None:
    assert lines(PLAIN.format(before=before, loss=LOSS, after="pass")) == [5]


def test_so_is_what_an_object_was_given_when_it_was_made() -> None:
    assert lines(AGENT.format("pass")) == [line_of(AGENT, "self.lam = ")]
    assert lines(AGENT.format("self.lam = torch.nn.functional.softplus(self.raw).detach()")) == []


@pytest.mark.parametrize(
    ("before", "loss", "after"),
    [
        ("alpha = log_alpha.exp().detach()", LOSS, "alpha = log_alpha.exp().detach()"),
        ("alpha = log_alpha.exp().item()", LOSS, "alpha = log_alpha.exp().item()"),
        ("alpha = log_alpha.exp().detach()", LOSS, "alpha.copy_(log_alpha.exp().detach())"),
        ("alpha = log_alpha.detach()", LOSS, "pass"),
        ("alpha = 1.0", LOSS, "pass"),
        ("first = log_alpha.exp().item()", "out.pow(2).mean() * 0.5", "print(first)"),
        ("first = log_alpha.exp().detach()", "out.pow(2).mean() * 0.5", "print(log_alpha.exp().detach() / first)"),
        (
            "first = log_alpha.detach().clone()",
            "out.pow(2).mean() + (first * log_alpha.exp()) ** 2",
            "pass",
        ),
    ],
)
def test_what_follows_the_leaf_or_weighs_nothing_is_fine(before: str, loss: str, after: str) -> None:
    assert lines(PLAIN.format(before=before, loss=loss, after=after)) == []

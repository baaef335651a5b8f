"""A library's sample without a graph, and the divergence that was to be computed from it."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = '''
import torch
from torch import nn
torch.manual_seed(0)
library = {{}}
exec(compile("""
import math
import torch
from torch import nn
class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    def forward(self):
        return Flowing(self.scale, self.shift)
class Flowing:
    def __init__(self, scale, shift):
        self.scale, self.shift = scale, shift
    def rsample(self, n):
        return torch.randn(n, 2) * self.scale.exp() + self.shift
    def sample(self, n):
        with torch.no_grad():
            return self.rsample(n)
    def log_prob(self, x):
        z = (x - self.shift) * (-self.scale).exp()
        return (-0.5 * z.pow(2) - self.scale).sum(-1)
""", "/nowhere/library.py", "exec"), library)
flow, other, head = library["Flow"](), library["Flow"](), nn.Linear(2, 1)
def log_density(x):
    return -0.5 * (x - 1).pow(2).sum(-1)
class Fit:
    def loss(self):
        q = flow()
        x = q.sample(16)  # draws
        {loss}
    def fit(self):
        opt = torch.optim.Adam([*flow.parameters(), *head.parameters()], lr=0.1)
        for _ in range(3):
            loss = self.loss()
            opt.zero_grad()
            loss.backward()
            opt.step()
Fit().fit()
'''
DIFFERENCE = "return (q.log_prob(x) - log_density(x)).mean()"


def told(loss: str, old: str = "", new: str = "") -> tuple[list[list[int]], str]:
    source = SOURCE.format(loss=loss).replace(old, new) if old else SOURCE.format(loss=loss)
    answers = [one for one in build(recorded(source)).answers if one.code == "sample-without-gradient"]
    return [[cause.line for cause in one.causes] for one in answers], source


@pytest.mark.parametrize(
    "loss",
    [
        DIFFERENCE,
        "log_q, log_p = q.log_prob(x), log_density(x)\n        return (log_q - log_p).mean()",
        "kl = q.log_prob(x) - log_density(x)\n        return kl.sum() / 16",
        "return -(log_density(x) - q.log_prob(x)).mean()",
        "with torch.no_grad(): target = log_density(x)\n        return torch.mean(-target + q.log_prob(x))",
    ],
)
def test_the_line_that_draws_is_named(loss: str) -> None:
    lines, source = told(loss)
    assert lines == [[line_of(source, "# draws")]]


@pytest.mark.parametrize(
    ("loss", "old", "new"),
    [
        (DIFFERENCE, "q.sample(16)", "q.rsample(16)"),
        (DIFFERENCE, "q.sample(16)", "torch.randn(16, 2)"),
        (DIFFERENCE, "q.sample(16)", "other().sample(16)"),
        (DIFFERENCE, "x = q.sample(16)", "x = q.sample(16); flow.shift.data.add_(1)"),
        ("d = q.log_prob(x) - log_density(x)\n        return (d.detach() * q.log_prob(x)).mean()", "", ""),
        ("d = q.log_prob(x) - log_density(x)\n        return (d.detach() * d).mean()", "", ""),
        ("return (q.log_prob(x) - log_density(x)).pow(2).mean()", "", ""),
        ("return (q.log_prob(x) - log_density(x)).var()", "", ""),
        ("return (q.log_prob(x) - log_density(x)).exp().mean()", "", ""),
        ("lp = q.log_prob(x)\n        return (lp - lp.detach()).mean() - (lp * log_density(x)).mean()", "", ""),
        ("return (q.log_prob(x) - head(x).squeeze(-1)).mean()", "", ""),
        ("return -q.log_prob(x).mean()", "", ""),
        ("y = torch.randn(16, 2)\n        return (q.log_prob(y) - log_density(y)).mean()", "", ""),
        ("return (q.log_prob(x) - other().log_prob(x)).mean() - head(x).mean()", "", ""),
        ("return (q.log_prob(x) - q.log_prob(x + 1).detach()).mean()", "", ""),
    ],
)
def test_what_has_a_gradient_and_what_weighs_one_are_left_alone(loss: str, old: str, new: str) -> None:
    assert told(loss, old, new)[0] == []

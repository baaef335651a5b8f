"""A loss that raises what a critic says, and whose gradient the critic's step applies with that of its own loss."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
from torch.nn import functional as F
torch.manual_seed(0)
policy, logs = nn.Linear(3, 2), nn.Linear(3, 2)
q1, q2 = (nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1)) for _ in range(2))
of_policy = torch.optim.Adam([*policy.parameters(), *logs.parameters()], lr=1e-3)
of_q = torch.optim.Adam([*q1.parameters(), *q2.parameters()], lr=1e-3)
alpha = torch.tensor(0.2)
def both(x, a):
    xa = torch.cat([x, a], dim=-1)
    return q1(xa), q2(xa)
for step in range(4):
    x, a, y = torch.randn(8, 3), torch.randn(8, 2), torch.randn(8, 1)
    own, other = both(x, a)
    q_loss = F.mse_loss(own, y) + F.mse_loss(other, y)
    of_q.zero_grad()
    q_loss.backward()
    made = torch.tanh(policy(x))
    of_q_loss = -torch.min(*both(x, made)).mean()
    of_policy.zero_grad()
    of_q_loss.backward()  # raises
    of_q.step()
    of_policy.step()
"""
RAISES = "-torch.min(*both(x, made)).mean()"
COMPARES = "F.mse_loss(own, y) + F.mse_loss(other, y)"


def found(source: str) -> list[tuple[str, int | None]]:
    answers = [one for one in build(recorded(source)).answers if one.code == "loss-reaches-other-network"]
    return [(one.text, one.causes[0].line) for one in answers]


@pytest.mark.parametrize(
    "raises",
    [
        RAISES,
        "-q1(torch.cat([x, made], -1)).mean()",
        "(alpha * logs(x).logsumexp(-1, keepdim=True) - torch.stack(both(x, made)).amin(0)).mean()",
        "-alpha * both(x, made)[0].squeeze(-1).sum() / 8 + (made - a).pow(2).mean()",
    ],
)
@pytest.mark.parametrize(
    "compares",
    [
        COMPARES,
        "(torch.cat([own, other], 1) - y).pow(2).mean()",
        "((own - y).squeeze(-1) ** 2 * torch.rand(8)).mean() + F.smooth_l1_loss(other.flatten(), y.flatten())",
        "sum((off * off).mean() for off in (own - y, other - y))",
    ],
)
def test_the_pass_that_adds_what_raises_the_critic_to_what_compares_it(raises: str, compares: str) -> None:
    source = PROGRAM.replace(RAISES, raises).replace(COMPARES, compares)
    [(text, line)] = found(source)
    assert line == line_of(source, "# raises")
    assert "(4 times)" in text


def test_in_methods_and_with_the_other_order_of_steps_and_clearing() -> None:
    source = PROGRAM.replace("    of_policy.zero_grad()\n", "").replace(
        "of_q.zero_grad()", "of_q.zero_grad(); of_policy.zero_grad()"
    )
    source = source.replace("    of_q.step()\n    of_policy.step()\n", "    of_policy.step()\n    of_q.step()\n")
    assert [line for _, line in found(source)] == [line_of(source, "# raises")]


def test_where_the_critics_own_pass_comes_second_it_is_the_line() -> None:
    own = "    q_loss.backward()\n"
    source = PROGRAM.replace(own, "").replace("# raises\n", "#\n    q_loss.backward()  # adds\n")
    assert [line for _, line in found(source)] == [line_of(source, "# adds")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("of_q_loss.backward()", "of_q_loss.backward(inputs=list(policy.parameters()))"),
        ("    made = ", "    of_q.step()\n    made = "),
        (RAISES, "(both(x, made)[0] - 1).pow(2).mean()"),  # (what is to be near a number trains both)
        (RAISES, "-both(x, made)[0].sigmoid().mean()"),
        (RAISES, "(both(x, made)[0] - both(x, a)[0]).mean()"),  # (one is to be larger than the other)
        (RAISES, "(torch.randn(8, 1) * both(x, made)[0]).mean()"),  # (here larger, there smaller)
        (RAISES, "-both(x, made.detach())[0].mean() + made.mean()"),  # (no way through the critic to the policy)
        (COMPARES, "F.mse_loss(own, y) + other.mean()"),  # (a loss that has no end itself)
        (COMPARES, "F.mse_loss(own + policy(x).sum(), y) + F.mse_loss(other, y)"),  # (both losses train both)
        ("of_q.step()\n    of_policy.step()", "of_policy.step(); of_q.zero_grad(); of_q.step()"),
        ("range(4)", "range(1)"),
    ],
)
def test_losses_that_may_be_meant_for_both_or_are_apart_are_no_finding(before: str, after: str) -> None:
    source = PROGRAM.replace(before, after)
    assert source != PROGRAM
    assert found(source) == []


def test_a_critic_that_is_frozen_for_the_policys_loss_is_left_alone() -> None:
    frozen = "[one.requires_grad_({}) for q in (q1, q2) for one in q.parameters()]"
    source = PROGRAM.replace("    made = ", f"    {frozen.format(False)}\n    made = ")
    source = source.replace("# raises\n", f"#\n    {frozen.format(True)}\n")
    assert found(source) == []

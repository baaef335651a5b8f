"""A score that only chooses items: the line that takes them is named, also where one branch alone does so."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PARTLY = """
import torch
from torch import nn
torch.manual_seed(0)
embed, gate, head = nn.Linear(4, 8), nn.Linear(8, 1), nn.Linear(8, 1)
params = [*embed.parameters(), *gate.parameters(), *head.parameters()]
optimizer = torch.optim.SGD(params, lr=0.1)
def chosen(h, soft):
    s = gate(h).squeeze(-1)
    if soft:
        return h * s.sigmoid().unsqueeze(-1)
    best = s.topk(3).indices  # cut
    return h[best]  # takes
for step in range(6):
    h = chosen(torch.tanh(embed(torch.randn(9, 4))), step % 2 == 0)
    loss = head(h).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, gate.weight.grad)
"""
TWO_MODELS = """
import torch
from torch import nn
torch.manual_seed(0)
actor, critic = nn.Linear(4, 3), nn.Linear(4, 3)
of_actor, of_critic = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (actor, critic))
def update(optimizer, loss):
    for one in (of_actor, of_critic):
        one.zero_grad()
    loss.backward()
    optimizer.step()
for step in range(6):
    x = torch.randn(5, 4)
    update(of_actor, -(actor(x).softmax(-1) * critic(x).detach()).sum())
    best = actor(x).argmax(-1, keepdim=True)
    update(of_critic, (critic(x).gather(1, best) - 1).pow(2).mean())
    print(step, actor.weight.grad)
"""


def found(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == "grad-none-unreached"]


def lines_named(answer: Answer) -> list[int]:
    return [cause.line for cause in answer.causes]


@pytest.mark.parametrize("soft", ["step % 2 == 0", "False"], ids=["in one branch", "always"])
@pytest.mark.parametrize(
    ("by", "takes"),
    [
        ("s.topk(3).indices", "h[best]"),
        ("s.argsort()[:3]", "torch.index_select(h, 0, best)"),
        ("s > s.median()", "h[best]"),
        ("s.argmax()", "h.gather(0, best.view(1, 1).expand(1, 8))"),
    ],
)
def test_the_line_that_takes_items_comes_before_the_one_that_gives_the_indices(soft: str, by: str, takes: str) -> None:
    source = PARTLY.replace("s.topk(3).indices", by).replace("h[best]", takes).replace("step % 2 == 0", soft)
    (answer,) = found(source)
    assert lines_named(answer) == [line_of(source, "# takes"), line_of(source, "# cut")]
    assert f"and line {line_of(source, '# takes')} takes items by that" in answer.text


def test_of_a_mask_that_is_computed_with_the_cut_alone_is_named() -> None:
    source = PARTLY.replace("s.topk(3).indices", "s > s.median()").replace("h[best]", "h * best.float()[:, None]")
    (answer,) = found(source)
    assert lines_named(answer) == [line_of(source, "# cut")]
    assert "takes items" not in answer.text


def test_where_the_pass_is_for_another_optimizer_the_choice_is_not_blamed() -> None:
    assert not any(answer.causes for answer in found(TWO_MODELS))


def test_what_passes_by_missing_gradients_is_a_note() -> None:
    loop = "for one in params:\n        if one.grad is not None:\n            print(one.grad.norm())"
    source = PARTLY.replace("print(step, gate.weight.grad)", loop)
    assert {answer.severity for answer in found(source)} == {"note"}


def test_a_score_that_weighs_what_it_chose_is_in_order() -> None:
    assert not found(PARTLY.replace("h[best]", "h[best] * s[best].unsqueeze(-1)"))

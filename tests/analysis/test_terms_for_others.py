"""A term that is cut off what the step updates, and whose gradients to others are thrown away."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
encoder, generator, critic = torch.nn.Linear(2, 2), torch.nn.Linear(2, 3), torch.nn.Linear(5, 1)
def loss_of(number):
    code = encoder(torch.ones(4, 2))
    fake, given = generator(code), code.detach()  # given
    if number == 0:
        judged = critic(torch.cat([fake.detach(), given], 1))  # judged
        adversarial = (judged - 1).pow(2).mean()
        return adversarial + fake.abs().mean()
    return critic(torch.cat([fake.detach(), given], 1)).mean()
optimizers = [
    torch.optim.SGD([*encoder.parameters(), *generator.parameters()], lr=0.1),
    torch.optim.SGD(critic.parameters(), lr=0.1),
]
for step in range(3):
    for number, optimizer in enumerate(optimizers):
        loss = loss_of(number)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


def found(source: str) -> list[int]:
    codes = ("term-for-others", "term-without-gradient")
    answers = [one for one in build(recorded(source)).answers if one.code in codes]
    return [cause.line for one in answers for cause in one.causes]


def test_the_cut_that_all_of_it_came_through_is_named() -> None:
    assert found(SOURCE) == [line_of(SOURCE, "# judged")]


def test_so_it_is_where_the_next_round_clears_what_it_gives_to_others() -> None:
    source = SOURCE.replace("in enumerate(optimizers)", "in reversed(list(enumerate(optimizers)))")
    assert found(source) == [line_of(SOURCE, "# judged")]
    assert not found(
        source.replace("critic(torch.cat([fake.detach(), given], 1))  #", "critic(torch.cat([fake, given], 1))  #")
    )


def test_so_is_that_of_a_term_without_any_gradient_in_the_pass_of_one_optimizer_of_several() -> None:
    frozen = "        critic.requires_grad_(number == 1)\n        loss = loss_of(number)"
    source = SOURCE.replace("        loss = loss_of(number)", frozen)
    assert found(source) == [line_of(SOURCE, "# judged")]


AROUND = SOURCE.replace("code.detach()  # given", "code")


def test_what_both_are_given_may_be_reached_around_the_generator() -> None:
    assert found(AROUND) == [line_of(AROUND, "# judged")]
    by_data = AROUND.replace(
        "critic(torch.cat([fake.detach(), given], 1))  #", "critic(torch.cat([fake.data, given], 1))  #"
    )
    assert found(by_data) == [line_of(by_data, "# judged")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("critic(torch.cat([fake.detach(), given], 1))  # judged", "critic(torch.cat([fake, given], 1))"),
        ("        optimizer.zero_grad()\n", ""),
        ("[*encoder.parameters(), *generator.parameters()]", "encoder.parameters()"),
    ],
    ids=["not cut off", "not cleared", "not updated"],
)
def test_a_term_that_trains_what_it_is_for_is_fine(before: str, after: str) -> None:
    assert before in AROUND
    assert not found(AROUND.replace(before, after))


ACTOR = """
import torch
encoder, actor, critic = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1), torch.nn.Linear(4, 1)
both = torch.optim.SGD([*encoder.parameters(), *actor.parameters()], lr=0.1)
judge = torch.optim.SGD(critic.parameters(), lr=0.1)
for step in range(3):
    code = encoder(torch.ones(4, 2))
    features = code.detach()
    value = critic(torch.cat([features, actor(features)], 1)).mean()
    loss = code.pow(2).mean() - value
    both.zero_grad()
    loss.backward()
    both.step()
    judge.zero_grad()
    critic(torch.cat([features, actor(features).detach()], 1)).pow(2).mean().backward()
    judge.step()
"""


def test_an_actor_on_features_that_it_is_not_to_move_is_fine() -> None:
    assert not found(ACTOR)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("critic(torch.cat([fake.detach(), given], 1))  # judged", "critic(torch.cat([fake, given], 1))"),
        ("        optimizer.zero_grad()\n", ""),
        ("        optimizer.step()\n", "        for one in optimizers: one.step()\n"),
    ],
    ids=["not cut off", "not cleared", "applied"],
)
def test_other_terms_are_fine(before: str, after: str) -> None:
    assert not found(SOURCE.replace(before, after))


MATCHED = """
import torch
import torch.nn.functional as F
from torch import nn
generator, inner, outer = nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 1)
of_generator = torch.optim.SGD(generator.parameters(), lr=0.1)
of_critic = torch.optim.SGD([*inner.parameters(), *outer.parameters()], lr=0.1)
def judge(x):
    features = inner(x).tanh()
    return outer(features), features
for step in range(3):
    fake = generator(torch.ones(4, 2))
    score, features = judge(fake)
    cut_score, cut_features = judge(fake.detach())  # cut
    real_score, real_features = judge(torch.rand(4, 3))
    matching = F.l1_loss(MATCHED, real_features.detach())  # matching
    of_generator.zero_grad()
    ((score - 1).pow(2).mean() + matching).backward(retain_graph=True)
    of_generator.step()
    of_critic.zero_grad()
    ((real_score - 1).pow(2).mean() + OTHER.pow(2).mean()).backward()
    of_critic.step()
"""


def test_where_the_cut_is_for_another_loss_the_term_that_takes_its_results_is_named() -> None:
    source = MATCHED.replace("MATCHED", "cut_features").replace("OTHER", "cut_score")
    assert found(source) == [line_of(source, "# matching")]
    (answer,) = (one for one in build(recorded(source)).answers if one.code == "term-for-others")
    assert f"line {line_of(source, '# cut')} by Tensor.detach for the loss of line" in answer.text
    assert found(MATCHED.replace("MATCHED", "features").replace("OTHER", "cut_score")) == []


def test_where_nothing_else_is_computed_of_the_results_the_cut_is_named() -> None:
    source = MATCHED.replace("MATCHED", "cut_features").replace("OTHER", "judge(fake.detach())[0]")
    assert found(source) == [line_of(source, "# cut")]

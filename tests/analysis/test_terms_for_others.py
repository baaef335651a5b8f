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

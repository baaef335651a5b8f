"""A network's loss whose gradient is added to that of the network it is against, before that one's step."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
from torch import nn
torch.manual_seed(0)
g, d = nn.Linear(4, 2), nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
of_g, of_d = torch.optim.SGD(g.parameters(), lr=0.1), torch.optim.Adam(d.parameters(), lr=0.1)
bce, ones, zeros = nn.BCEWithLogitsLoss(), torch.ones(8, 1), torch.zeros(8, 1)
for step in range(4):
    real, noise = torch.randn(8, 2) + 2, torch.randn(8, 4)
    fake = g(noise)
    judged = d(fake)
"""
BOTH = """\
    loss_g = bce(judged, ones)
    loss_d = bce(d(real), ones) + bce(judged, zeros)  # reaches
    of_g.zero_grad()
    loss_g.backward(retain_graph=True)
    of_d.zero_grad()
    loss_d.backward()
    of_g.step()
    of_d.step()
"""


def found(program: str) -> list[int]:
    answers = [one for one in build(recorded(HEAD + program)).answers if one.code == "loss-reaches-other-network"]
    return [one.causes[0].line for one in answers]


@pytest.mark.parametrize(
    "loss",
    [
        "bce(d(real), ones) + bce(judged, zeros)",
        "(bce(d(real), ones) + bce(d(fake), zeros)) / 2",
        "judged.mean() - d(real).mean()",
        "-(d(real).sigmoid().log() + (1 - judged.sigmoid()).log()).mean()",
        "bce(d(real), ones) + bce(d(g(torch.randn(8, 4))), zeros)",
    ],
)
def test_the_line_at_which_the_critics_loss_takes_what_was_not_detached(loss: str) -> None:
    program = BOTH.replace("bce(d(real), ones) + bce(judged, zeros)", loss)
    assert found(program) == [line_of(HEAD + program, "# reaches")]


def test_the_line_of_a_judgment_of_its_own_is_named_instead() -> None:
    program = BOTH.replace("    loss_d = ", "    again = d(fake)  # again\n    loss_d = ").replace(
        "(judged, z", "(again, z"
    )
    assert found(program) == [line_of(HEAD + program, "# again")]


def test_of_two_passes_for_the_critic_the_one_is_named_that_goes_on() -> None:
    program = BOTH.replace("    loss_d.backward()\n", "    bce(d(real), ones).backward()\n    loss_d.backward()\n")
    program = program.replace("bce(d(real), ones) + bce(judged", "bce(judged")
    assert found(program) == [line_of(HEAD + program, "# reaches")]


def test_the_generators_loss_that_comes_second_adds_to_the_gradient_of_the_critic() -> None:
    program = """\
    of_d.zero_grad()
    (bce(d(real), ones) + bce(judged, zeros)).backward(retain_graph=True)
    of_g.zero_grad()
    bce(judged, ones).backward()  # reaches
    of_d.step()
    of_g.step()
"""
    assert found(program) == [line_of(HEAD + program, "# reaches")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("bce(judged, zeros)", "bce(d(fake.detach()), zeros)"),
        ("loss_d.backward()", "loss_d.backward(inputs=list(d.parameters()))"),
        ("loss_d.backward()", "g.requires_grad_(False)\n    bce(d(real), ones).backward()\n    g.requires_grad_(True)"),
        ("bce(d(real), ones) + ", ""),  # (one network on top of the other, which may be meant to train both)
        ("for step in range(4)", "for step in range(1)"),
    ],
)
def test_what_goes_to_one_network_or_may_be_for_both_is_no_finding(before: str, after: str) -> None:
    source = (HEAD + BOTH).replace(before, after)
    assert source != HEAD + BOTH
    assert "loss-reaches-other-network" not in [one.code for one in build(recorded(source)).answers]


def test_parameters_that_the_second_loss_trains_in_part_are_meant() -> None:
    source = (HEAD + BOTH).replace("SGD(g.parameters()", "SGD([*g.parameters(), *head.parameters()]")
    source = source.replace("of_g, of_d =", "head = nn.Linear(4, 1)\nof_g, of_d =")
    source = source.replace("loss_g = bce(judged, ones)", "loss_g = bce(judged, ones) + head(noise).mean()")
    assert "loss-reaches-other-network" not in [one.code for one in build(recorded(source)).answers]


CLEARED_BEFORE = BOTH.replace("    of_d.zero_grad()\n", "").replace(
    "of_g.zero_grad()", "of_g.zero_grad(); of_d.zero_grad()"
)
DETACHED = CLEARED_BEFORE.replace("bce(judged, zeros)  # reaches", "bce(d(fake.detach()), zeros)")
DETACHED = DETACHED.replace("loss_d.backward()", "loss_d.backward()  # adds")
OF_G, OF_D = "loss_g = bce(judged, ones)", "loss_d = bce(d(real), ones) + bce(d(fake.detach()), zeros)"


@pytest.mark.parametrize(
    ("of_g", "of_d"),
    [
        ("bce(judged, ones)", "bce(d(real), ones) + bce(judged, zeros)"),
        ("-judged.mean()", "judged.mean() - d(real).mean()"),
        ("-judged.sigmoid().log().mean()", "-(d(real).sigmoid().log() + (1 - judged.sigmoid()).log()).mean()"),
        ("-judged.mean()", "(1 - d(real)).relu().mean() + (1 + judged).relu().mean()"),
    ],
)
def test_two_losses_against_each_other_are_told_by_what_they_want(of_g: str, of_d: str) -> None:
    program = CLEARED_BEFORE.replace("bce(d(real), ones) + bce(judged, zeros)", of_d)
    program = program.replace("bce(judged, ones)", of_g)
    assert found(program) == [line_of(HEAD + program, "# reaches")]


@pytest.mark.parametrize(
    ("of_g", "of_d"),
    [
        ("bce(judged, ones)", "bce(d(real), ones * 0.9) + bce(d(fake.detach()), torch.zeros_like(judged))"),
        ("-judged.mean()", "d(fake.detach()).mean() - d(real).mean()"),
        (
            "nn.functional.softplus(-judged).mean()",
            "(nn.functional.softplus(d(fake.detach())).mean() + nn.functional.softplus(-d(real)).mean()) / 2",
        ),
    ],
)
def test_the_pass_that_adds_to_what_the_other_loss_left_in_the_judge(of_g: str, of_d: str) -> None:
    program = DETACHED.replace(OF_G, f"loss_g = {of_g}").replace(OF_D, f"loss_d = {of_d}")
    assert found(program) == [line_of(HEAD + program, "# adds")]


def test_so_it_is_the_first_one_of_the_judge_and_the_one_that_comes_after_its_own() -> None:
    apart = "bce(d(real), ones).backward()  # first\n    loss_d.backward()"
    program = DETACHED.replace("loss_d.backward()", apart).replace("bce(d(real), ones) + bce(d(fake", "bce(d(fake")
    assert found(program) == [line_of(HEAD + program, "# first")]
    backward = "    loss_g.backward(retain_graph=True)\n"
    program = DETACHED.replace(backward, "").replace("# adds\n", "#\n    loss_g.backward()  # adds\n")
    assert found(program) == [line_of(HEAD + program, "# adds")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("zeros)\n", "ones)\n"),  # (both want the same)
        ("bce(d(real), ones) + bce(d(fake.detach()), zeros)", "bce(d(real), ones) + bce(d(g(noise + 1)), zeros)"),
        ("bce(d(real), ones) + ", ""),
        ("bce(d(real), ones) + ", "bce(d(real), zeros) + "),  # (one class among others)
        (OF_G, f"d.requires_grad_(False)\n    {OF_G.replace('judged', 'd(fake)')}\n    d.requires_grad_(True)"),
        ("    loss_d.backward()", "    of_d.zero_grad()\n    loss_d.backward()"),
    ],
)
def test_losses_that_want_the_same_or_are_apart_are_no_finding(before: str, after: str) -> None:
    source = HEAD + DETACHED
    changed = source.replace(before, after)
    assert changed != source
    assert "loss-reaches-other-network" not in [one.code for one in build(recorded(changed)).answers]

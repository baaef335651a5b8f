"""Passes of a loss of its own, whose gradients are cleared each time before a step could apply them."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

LOOP = """
import torch
critic = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.SiLU(), torch.nn.Linear(4, 1))
other = torch.nn.Linear(2, 2)
optimizer = torch.optim.Adam(critic.parameters())
second = torch.optim.Adam(other.parameters())
kept = []
def penalty(real):
    real = real.clone().requires_grad_(True)
    slope, = torch.autograd.grad(critic(real).sum(), real, create_graph=True)
    return slope.pow(2).sum(dim=1).mean()
for step in range(9):
    real = torch.randn(4, 2)
    optimizer.zero_grad()  # clears
    critic(real).pow(2).mean().backward()  # applied
    optimizer.step()  # steps
    if step % 2 == 0:
        loss = penalty(real)
        loss.backward()  # in vain
        pass  # behind
"""
STEP = "    optimizer.step()  # steps\n"


def told(source: str) -> list[list[int]]:
    answers = [one for one in build(recorded(source)).answers if one.code == "accumulation-cleared"]
    return [[cause.line for cause in one.causes] for one in answers]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("loss = penalty(real)", "loss = penalty(real)"),
        ("optimizer.zero_grad()  # clears", "critic.zero_grad(set_to_none=False)  # clears"),
        ("loss = penalty(real)", "loss = sum(p.pow(2).sum() for p in critic.parameters())"),
        ("if step % 2 == 0:", "for _ in range(2):"),
        ("pass  # behind", "second.zero_grad()"),
        ("pass  # behind", "torch.nn.utils.clip_grad_norm_(critic.parameters(), 0.1)"),
    ],
    ids=["penalty", "to zero", "decay", "twice", "another cleared", "clipped"],
)
def test_a_loss_whose_pass_comes_after_the_step_is_told_of(old: str, new: str) -> None:
    source = LOOP.replace(old, new)
    assert told(source) == [[line_of(source, "# in vain"), line_of(source, "# steps"), line_of(source, "# clears")]]


@pytest.mark.parametrize(
    "helper",
    [
        "def run(loss):\n    loss.backward()",
        "class Run:\n    def __call__(self, loss):\n        (loss / 2).backward()\nrun = Run()",
    ],
    ids=["function", "object"],
)
def test_a_helper_may_run_the_passes_of_all_losses(helper: str) -> None:
    source = LOOP.replace("kept = []", "kept = []\n" + helper)
    source = source.replace("critic(real).pow(2).mean().backward()", "run(critic(real).pow(2).mean())")
    source = source.replace("loss.backward()  # in vain", "run(2 * loss)  # in vain")
    assert told(source) == [[line_of(source, mark) for mark in ("# in vain", "# steps", "# clears")]]


def test_so_is_one_that_is_cleared_before_the_pass_of_another_loss() -> None:
    source = """
import torch
net, head = torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)
both = torch.nn.Sequential(net, head)
optimizer = torch.optim.SGD(both.parameters(), lr=0.1)
for step in range(6):
    x = torch.randn(5, 3)
    net(x).pow(2).mean().backward()  # in vain
    optimizer.zero_grad()  # clears
    both(x).pow(2).mean().backward()
    optimizer.step()
"""
    assert told(source) == [[line_of(source, "# in vain"), line_of(source, "# clears")]]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pass  # behind", "optimizer.step()"),
        (STEP, ""),
        ("optimizer.zero_grad()  # clears", "pass"),  # the next step applies it
        ("pass  # behind", "kept.append(critic[0].weight.grad.norm().item())"),
        ("pass  # behind", "kept.append(torch.nn.utils.clip_grad_norm_(critic.parameters(), 9.0).item())"),
        ("pass  # behind", "kept += [p.grad for p in critic.parameters()]\n        print(kept[0].sum())"),
        ("pass  # behind", "kept.append(critic[0].weight.grad.numpy().copy())"),
        ("loss = penalty(real)", "loss = critic(other(real)).mean()"),
        ("loss.backward()  # in vain", "loss.backward(inputs=[real.requires_grad_()]) if step < 0 else None"),
        ("if step % 2 == 0:", "if step == 4:"),
        (
            "loss = penalty(real)",
            "hidden = critic[0](real)\n        hidden.retain_grad()\n        loss = critic[1:](hidden).sum()",
        ),
        ("loss = penalty(real)", "at = real.clone().requires_grad_()\n        loss = critic(at).sum()"),
        (
            "kept = []",
            "kept = []\ncritic[0].register_full_backward_hook(lambda *given: kept.append(given[2][0].norm()))",
        ),
    ],
    ids=[
        *(
            "stepped",
            "before the step",
            "not cleared",
            "norm",
            "norm of all",
            "kept",
            "numpy",
            "for another",
            "not run",
            "once",
        ),
        *("activation", "input", "hook"),
    ],
)
def test_gradients_that_are_applied_or_used_are_fine(old: str, new: str) -> None:
    source = LOOP.replace(old, new)
    assert source != LOOP
    if new == "":
        source += STEP
    if "other(real)" in new:
        source += "        second.step()\n        second.zero_grad()\n"
    if "retain_grad" in new:
        source += "        kept.append(hidden.grad * hidden)\n"
    if "at = real" in new:
        source += "        kept.append(real + 0.1 * at.grad.sign())\n"
    assert told(source) == []


def test_passes_that_warm_up_before_the_first_step_are_fine() -> None:
    warm = "for _ in range(5):\n    critic(torch.ones(2, 2)).sum().backward()\n    optimizer.zero_grad()\n"
    source = LOOP.replace("for step in range(9):", warm + "for step in range(9):").replace(
        "pass  # behind", STEP.strip()
    )
    assert told(source) == []


def test_one_line_whose_passes_are_applied_at_times_is_not_told_of() -> None:
    source = """
import torch
net = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(12):
    optimizer.zero_grad()
    net(torch.randn(5, 3)).pow(2).mean().backward()
    if step % 3:
        optimizer.step()
"""
    assert told(source) == []


ACTOR = """
import torch
actor, critic = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
first, second = (torch.optim.Adam(one.parameters()) for one in (actor, critic))
for step in range(6):
    state = torch.randn(4, 2)
    action = actor(state).detach()
    second.zero_grad()
    critic(action).pow(2).mean().backward()
    second.step()
    loss = -critic(action).mean()
    first.zero_grad()
    loss.backward()
    {}
"""


@pytest.mark.parametrize(("after", "count"), [("first.step()", 0), ("", 1)])
def test_a_pass_for_a_step_that_finds_no_gradient_is_not_in_vain_for_what_it_went_through(
    after: str, count: int
) -> None:
    codes = [one.code for one in build(recorded(ACTOR.format(after))).answers]
    assert codes.count("accumulation-cleared") == count
    assert "leaf-unreached" in codes

"""``torch.manual_seed`` for something beside the training, after which the training draws the same numbers again."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
from torch.nn import functional as F

def set_seed(seed):
    torch.manual_seed(seed)  # helper

set_seed(3)
net = nn.Sequential(nn.Linear(3, 4), nn.Dropout({rate}), nn.Linear(4, 3))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
start = {{name: value.clone() for name, value in net.state_dict().items()}}
fixed, own = torch.ones(5, 3), torch.Generator().manual_seed(1)

@torch.no_grad()
def preview(epoch):
    {seed}
    net.eval()
    found = net({drawn})
    net.train()
    return found

def step():
    x = {noise}
    optimizer.zero_grad()
    F.mse_loss(net(fixed + x), fixed).backward()
    optimizer.step()

for epoch in range(5):
    {before}
    for _ in range(2):
        step()
    {after}
"""
USUAL = {
    "rate": "0.0",
    "seed": "torch.manual_seed(1)  # seeds",
    "drawn": "torch.randn(4, 3)",
    "noise": "torch.randn_like(fixed)",
    "before": "pass",
    "after": "preview(epoch)",
}


def said(**changed: str) -> list[tuple[str, list[int]]]:
    recording = recorded(PROGRAM.format(**{**USUAL, **changed}))
    assert recording.info.outcome.kind == "ok"
    answers = build(recording).answers
    return [(one.text, [cause.line for cause in one.causes]) for one in answers if one.code == "draws-repeat"]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"drawn": "fixed"},
        {"rate": "0.5", "noise": "0 * fixed"},
        {"noise": "torch.empty(5, 3).normal_()"},
        {"before": "preview(epoch)", "after": "pass"},
        {"seed": "set_seed(1)  # seeds"},
        {"after": "preview(epoch); optimizer.param_groups[0]['lr'] *= 0.9"},
    ],
)
def test_the_line_that_seeds_is_named_first(changed: dict[str, str]) -> None:
    ((text, causes),) = said(**changed)
    source = PROGRAM.format(**{**USUAL, **changed})
    assert causes[0] == line_of(source, "# seeds")
    assert causes[1:] == [line_of(source, "# helper")] * ("set_seed" in changed.get("seed", ""))
    assert "with 1 before each" in text


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": "torch.manual_seed(epoch)"},
        {"after": "state = torch.get_rng_state(); preview(epoch); torch.set_rng_state(state)"},
        {"after": "with torch.random.fork_rng(): preview(epoch)"},
        {"noise": "torch.randn(5, 3, generator=own)"},
        {"noise": "0 * fixed"},
        {"seed": "pass", "before": "torch.manual_seed(1)"},
        {"seed": "pass", "noise": "torch.manual_seed(1) and torch.randn(5, 3)"},
        {"after": "preview(epoch); net.load_state_dict(start)"},
        {"after": "preview(epoch); optimizer = torch.optim.SGD(net.parameters(), lr=0.01)"},
        {"after": "epoch or preview(epoch)"},
    ],
)
def test_it_is_silent(changed: dict[str, str]) -> None:
    assert not said(**changed)


def test_each_experiment_may_begin_with_the_same_seed() -> None:
    source = """
    import torch
    def train(width):
        torch.manual_seed(1)
        with torch.no_grad():
            test = torch.randn(4, 3)
        net = torch.nn.Linear(3, width)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.randn(5, 3)).pow(2).mean().backward()
            optimizer.step()
        return net(test)
    found = [train(2) for _ in range(4)]
    """
    assert not [one for one in build(recorded(source)).answers if one.code == "draws-repeat"]


STEPS = """
import torch
from torch import nn

net = nn.Sequential(nn.Linear(3, 8), nn.Dropout({rate}), nn.Linear(8, 3))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

def corrupt(x):
    {inner}
    return x + torch.randn_like(x)

def step(x):
    {outer}
    weight = {weight}
    optimizer.zero_grad()
    (weight * (net(corrupt(x)) - x)).pow(2).mean().backward()
    optimizer.step()

for epoch in range({epochs}):
    {before}
    for _ in range(3):
        step(torch.ones(5, 3))
"""
SEED = "torch.manual_seed(7)  # seeds"
MEANT = {"rate": "0.5", "inner": "pass", "outer": "pass", "weight": "1", "before": "pass", "epochs": "3"}


def said_of_steps(**changed: str) -> list[int]:
    answers = build(recorded(STEPS.format(**{**MEANT, **changed}))).answers
    return [one.causes[0].line for one in answers if one.code == "draws-repeat"]


@pytest.mark.parametrize(
    "changed",
    [
        {"inner": SEED},
        {"outer": SEED},
        {"outer": SEED, "weight": "torch.rand(1)"},
    ],
)
def test_the_same_dropout_in_each_step_is_not_meant(changed: dict[str, str]) -> None:
    assert said_of_steps(**changed) == [line_of(STEPS.format(**{**MEANT, **changed}), "# seeds")]


def test_what_is_drawn_after_the_function_that_seeds_and_draws_is_not_meant() -> None:
    source = """
    import torch
    net = torch.nn.Linear(3, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    def corrupt(x):
        torch.manual_seed(7)  # seeds
        return x + torch.randn_like(x)
    for _ in range(9):
        noisy = corrupt(torch.ones(5, 3))
        at = torch.rand(5, 1)
        optimizer.zero_grad()
        (net(noisy * at) - 1).pow(2).mean().backward()
        optimizer.step()
    """
    found = [one for one in build(recorded(source)).answers if one.code == "draws-repeat"]
    assert [one.causes[0].line for one in found] == [line_of(source, "# seeds")]
    assert "torch.rand," in found[0].text


@pytest.mark.parametrize(
    "changed",
    [
        {"inner": SEED, "rate": "0.0"},
        {"outer": SEED, "rate": "0.0", "weight": "torch.rand(1)"},
        {"before": "torch.manual_seed(7)"},
        {"inner": "torch.manual_seed(optimizer.state.setdefault(0, {}).setdefault(0, id(x)) + id(x))"},
        {"inner": SEED, "epochs": "1"},
        {"outer": "epoch or torch.manual_seed(7)", "epochs": "4"},
    ],
)
def test_one_noise_for_all_steps_may_be_meant(changed: dict[str, str]) -> None:
    assert said_of_steps(**changed) == []

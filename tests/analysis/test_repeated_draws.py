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

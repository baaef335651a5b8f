"""Gradients that are cleared before a step took them, and gradients of another network's loss."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = "import torch\nfrom torch import nn\n"
NET = "net = nn.Linear(2, 1)\noptimizer = torch.optim.SGD(net.parameters(), lr=0.1)\nx = torch.ones(2, 2)\n"
PAIR = """\
g, d = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
of_g, of_d = torch.optim.SGD(g.parameters(), lr=0.1), torch.optim.Adam(d.parameters(), lr=0.1)
x = torch.ones(2, 2)
for step in range(4):
"""


def said(program: str) -> list[tuple[str, list[int]]]:
    codes = ("accumulation-cleared", "gradients-of-another-loss", "gradients-applied-again")
    answers = build(recorded(HEAD + program)).answers
    return [(one.code, [cause.line for cause in one.causes]) for one in answers if one.code in codes]


CLEARED_BY_HAND = f"""{NET}
for batch in range(6):
    for p in net.parameters():
        if p.grad is not None:
            p.grad.zero_()
    net(x).sum().backward()
    if batch % 3 == 2:
        optimizer.step()
"""


def test_gradients_that_are_cleared_for_each_of_several_passes() -> None:
    assert said(CLEARED_BY_HAND) == [("accumulation-cleared", [10])]


@pytest.mark.parametrize(
    "loop",
    [
        "if batch % 3 == 0:\n        optimizer.zero_grad()\n    net(x).sum().backward()",
        "optimizer.zero_grad()\n    net(x).sum().backward()\n    print(net.weight.grad.tolist())",
        "net(x).sum().backward()\n    held = [p.grad.clone() for p in net.parameters()]\n    optimizer.zero_grad()\n"
        "    net(x).sum().backward()",
    ],
)
def test_gradients_that_are_added_up_or_looked_at_are_no_finding(loop: str) -> None:
    assert said(f"{NET}for batch in range(6):\n    {loop}\n    if batch % 3 == 2:\n        optimizer.step()\n") == []


def test_gradients_of_a_generators_loss_in_the_discriminator() -> None:
    program = f"""{PAIR}
    of_g.zero_grad()
    of_d.zero_grad()
    (-d(g(x)).mean()).backward()
    of_g.step()
    d(g(x).detach()).mean().backward()
    of_d.step()
"""
    assert said(program) == [("gradients-of-another-loss", [9, 12, 13])]


def test_gradients_of_a_discriminators_loss_in_the_generator() -> None:
    program = f"""{PAIR}
    of_g.zero_grad()
    of_d.zero_grad()
    made = g(x)
    (d(made).mean() - d(x).mean()).backward(retain_graph=True)
    of_d.step()
    (-d(g(x)).mean()).backward()
    of_g.step()
"""
    assert said(program) == [("gradients-of-another-loss", [8, 13, 14])]


@pytest.mark.parametrize(
    "loop",
    [
        "of_g.zero_grad(); of_d.zero_grad()\n    (d(g(x).detach()).mean() - d(x).mean()).backward()\n    of_d.step()\n"
        "    (-d(g(x)).mean()).backward()\n    of_g.step()",
        "of_d.zero_grad()\n    (d(g(x)).mean() - d(x).mean()).backward()\n    of_d.step()\n"
        "    of_g.zero_grad(); (-d(g(x)).mean()).backward()\n    of_g.step()",
        "of_g.zero_grad(); (-d(g(x)).mean()).backward(); of_g.step()\n"
        "    of_d.zero_grad()\n    d(g(x).detach()).mean().backward()\n    of_d.step()",
        # one loss through both, and one of the second network's own, added up for it before either steps
        "of_g.zero_grad(); of_d.zero_grad()\n    d(g(x)).mean().backward()\n    d(x).mean().backward()\n"
        "    of_g.step(); of_d.step()",
        # a trunk whose gradients of two heads are added up: it is before the heads, not behind them
        "of_g.zero_grad(); of_d.zero_grad()\n    d(g(x)).mean().backward()\n    of_d.step()\n"
        "    g(x).mean().backward()\n    of_g.step()",
    ],
)
def test_gradients_that_belong_together_are_no_finding(loop: str) -> None:
    assert said(f"{PAIR}    {loop}\n") == []


TURNS = """\
class Turns:
    def __init__(self):
        self.parts = {"g": of_g, "d": of_d}
    def loss(self, name):
        return -d(g(x)).mean() if name == "g" else d(g(x).detach()).mean() - d(x).mean()
    def train(self, name):
        loss, optimizer = self.loss(name), self.parts[name]
        REPLACED
turns = Turns()
for step in range(4):
    for name in ("g", "d"):
        turns.train(name)
"""
SET_UP = PAIR.replace("for step in range(4):\n", "")


def test_one_line_that_trains_each_network_in_turn_and_clears_after_its_step() -> None:
    program = SET_UP + TURNS.replace(
        "REPLACED", "loss.backward()\n        optimizer.step()\n        optimizer.zero_grad()"
    )
    assert said(program) == [("gradients-of-another-loss", [15, 13, 14])]


@pytest.mark.parametrize(
    "train",
    [
        "optimizer.zero_grad()\n        loss.backward()\n        optimizer.step()",
        "loss.backward()\n        optimizer.step()\n        of_g.zero_grad(); of_d.zero_grad()",
        "loss.backward(inputs=list((g if name == 'g' else d).parameters()))\n        optimizer.step()\n"
        "        optimizer.zero_grad()",
    ],
    ids=["cleared before", "all cleared", "asked for its own"],
)
def test_one_line_that_trains_each_network_on_its_own_gradients_is_no_finding(train: str) -> None:
    assert said(SET_UP + TURNS.replace("REPLACED", train)) == []


@pytest.mark.parametrize(
    "loop",
    [
        # one network is trained on several batches at once, the other on each
        "    d(g(x)).mean().backward()\n    of_g.step(); of_g.zero_grad()\n"
        "    if step % 2:\n        of_d.step(); of_d.zero_grad()\n",
        # heads in turn, whose trunk is trained on all of them
        "    for head, of_head in heads:\n        head(g(x)).mean().backward()\n"
        "        of_head.step(); of_head.zero_grad()\n    of_g.step(); of_g.zero_grad()\n",
    ],
)
def test_gradients_that_one_line_adds_up_for_a_later_step_are_no_finding(loop: str) -> None:
    heads = "heads = [(one, torch.optim.SGD(one.parameters(), lr=0.1)) for one in (nn.Linear(2, 1), nn.Linear(2, 1))]\n"
    assert said(f"{SET_UP}{heads}for step in range(6):\n{loop}") == []

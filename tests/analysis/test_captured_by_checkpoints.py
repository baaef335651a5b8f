"""Reentrant checkpoints whose functions use a graph that they were not given: they are named where backward fails."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
from functools import partial
from torch import nn
from torch.utils.checkpoint import checkpoint
torch.manual_seed(0)
text, inp, out = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(2, 4), nn.Linear(4, 1)
def loss_of(h):
    return out(h).pow(2).mean()
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.film, self.net = nn.Linear(4, 4), nn.Linear(4, 4)
    def forward(self, h, cond):
        return h + torch.tanh(self.net(h) * self.film(cond))
blocks = nn.ModuleList(Block() for _ in range(COUNT))
x, ids = torch.randn(5, 2), torch.randn(5, 3)
"""
CLOSURE = """
cond, h = text(ids), inp(x)  # made
for block in blocks:
    h = checkpoint(lambda h, block=block: block(h, cond), h, use_reentrant=True)  # runs
loss_of(h).backward()
"""
ATTRIBUTE = """
class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = blocks
    def at(self, number, h):
        return self.blocks[number](h, self.cond)
    def forward(self, x, ids):
        self.cond, h = text(ids), inp(x)  # made
        for number in range(len(self.blocks)):
            h = checkpoint(partial(self.at, number), h, use_reentrant=True)  # runs
        return h
loss_of(Denoiser()(x, ids)).backward()
"""
IN_A_TUPLE = """
cond, h = text(ids), inp(x)  # made
def run(block, pair, h):
    return block(h, *pair)
for block in blocks:
    h = checkpoint(run, block, (cond,), h, use_reentrant=True)  # runs
loss_of(h).backward()
"""
FORMS = {"closure": CLOSURE, "attribute": ATTRIBUTE, "in-a-tuple": IN_A_TUPLE}


def told(source: str) -> list[tuple[str, list[int]]]:
    answers = build(recorded(source)).answers
    return [(one.code, [cause.line for cause in one.causes]) for one in answers if one.severity != "note"]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_checkpoint_is_named_and_what_it_captures(form: str) -> None:
    source = HEAD.replace("COUNT", "3") + form
    assert told(source) == [("graph-used-twice", [line_of(source, "# runs"), line_of(source, "# made")])]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_where_one_block_alone_comes_there_nothing_fails(form: str) -> None:
    assert told(HEAD.replace("COUNT", "1") + form) == []


def test_the_loss_may_come_there_as_well() -> None:
    source = HEAD.replace("COUNT", "1") + CLOSURE.replace("loss_of(h)", "(loss_of(h) + cond.pow(2).mean())")
    assert told(source) == [("graph-used-twice", [line_of(source, "# runs"), line_of(source, "# made")])]


def test_a_skip_connection_leads_through_the_checkpoint_before() -> None:
    source = (
        HEAD.replace("COUNT", "1")
        + """
block, same = blocks[0], torch.ones(5, 4)
skip = checkpoint(block, inp(x), same, use_reentrant=True)  # made
h = checkpoint(block, skip, same, use_reentrant=True)
h = checkpoint(lambda h: block(h + skip, same), h, use_reentrant=True)  # runs
loss_of(h).backward()
"""
    )
    assert told(source) == [("graph-used-twice", [line_of(source, "# runs"), line_of(source, "# made")])]


def test_where_another_line_says_that_it_is_reentrant_that_is_named_too() -> None:
    source = HEAD.replace("COUNT", "2") + CLOSURE.replace("h = checkpoint(", "h = run(").replace(
        ", use_reentrant=True", ""
    ).replace("cond, h", "run = partial(checkpoint, use_reentrant=True)  # told\ncond, h")
    lines = [line_of(source, mark) for mark in ("# runs", "# told", "# made")]
    assert told(source) == [("graph-used-twice", lines)]


def test_what_was_computed_once_for_all_steps_is_named_where_it_was_made() -> None:
    loop = "h = inp(x)\n    h = checkpoint(lambda h: blocks[0](h, cond), h, use_reentrant=True)  # runs"
    source = (
        HEAD.replace("COUNT", "1")
        + f"cond = text(ids)  # made\nfor _ in range(2):\n    {loop}\n    loss_of(h).backward()\n"
    )
    assert told(source) == [("graph-used-twice", [line_of(source, "# made"), line_of(source, "# runs")])]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("use_reentrant=True", "use_reentrant=False"),
        ("lambda h, block=block: block(h, cond), h,", "block, h, cond,"),
        ("lambda h, block=block: block(h, cond), h,", "lambda h, c, block=block: block(h, c), h, cond,"),
        ("block(h, cond)", "block(h, cond.detach())"),
        ("cond, h = text(ids)", "cond, h = ids @ torch.ones(3, 4)"),
    ],
)
def test_arguments_and_what_has_no_graph_are_fine(old: str, new: str) -> None:
    found = told(HEAD.replace("COUNT", "3") + CLOSURE.replace(old, new))
    assert [one for one in found if one[0] == "graph-used-twice"] == []


def test_another_graph_that_is_used_twice_is_not_put_down_to_a_checkpoint_beside_it() -> None:
    source = (
        HEAD.replace("COUNT", "1")
        + """
h = checkpoint(lambda h: blocks[0](h, torch.ones(5, 4)), inp(x), use_reentrant=True)
loss = loss_of(h)
for _ in range(2):
    loss.backward()
"""
    )
    ((code, lines),) = told(source)
    assert code == "graph-used-twice"
    assert line_of(source, "h = check") not in lines

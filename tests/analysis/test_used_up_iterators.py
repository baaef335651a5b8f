"""Iterators that an optimizer was given and a loop goes through later."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import itertools
from itertools import chain
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
layer, other = nn.Linear(4, 1), nn.Linear(4, 1)
params = {made}
optimizer = torch.optim.SGD({given}, lr=0.1)
def update():
    optimizer.zero_grad()
    (layer(torch.ones(2, 4)) + other(torch.ones(2, 4))).sum().backward()
    {again}
    optimizer.step()
for step in range(2):
    update()
"""
LOOP = "for p in params: p.requires_grad_(True)"


def causes(made: str, again: str = LOOP, given: str = "params") -> tuple[list[int], str]:
    source = PROGRAM.format(made=made, again=again, given=given)
    answers = [one for one in build(recorded(source)).answers if one.code == "iterator-used-up"]
    return [cause.line for answer in answers for cause in answer.causes], source


@pytest.mark.parametrize(
    "made",
    [
        "layer.parameters()",
        "itertools.chain(layer.parameters(), other.parameters())",
        "chain(layer.parameters(), other.parameters())",
        "(p for p in layer.parameters())",
        "filter(lambda p: p.requires_grad, layer.parameters())",
    ],
)
@pytest.mark.parametrize(
    "again",
    [
        LOOP,
        "clip_grad_norm_(params, 1.0)",
        "norm = clip_grad_norm_(params, 1.0)",
        "norm = clip_grad_norm_(params, 1.0).item()",
        "print(float(clip_grad_norm_(params, 1.0)))",
        "for i, p in enumerate(params): p.data",
    ],
)
def test_an_iterator_that_is_gone_through_after_the_optimizer(made: str, again: str) -> None:
    found, source = causes(made, again)
    assert found == [line_of(source, "params = ")]


@pytest.mark.parametrize("second, is_said", [("params", True), ("list(layer.parameters())", False)])
def test_a_second_name_of_the_iterator_is_as_used_up(second: str, is_said: bool) -> None:
    found, source = causes("layer.parameters()", f"clipped = {second}\n    clip_grad_norm_(clipped, 1.0)")
    assert found == ([line_of(source, "params = ")] if is_said else [])


TRAINER = """
import torch
from torch import nn
class Trainer:
    def __init__(self, model):
        self.model = model
        self.kept = self.trainable()
        self.optimizer = torch.optim.SGD(self.kept, lr=0.1)
    def trainable(self):
        {}
    def clip(self):
        if self.model.training:
            return nn.utils.clip_grad_norm_(self.kept, 1.0)
trainer = Trainer(nn.Linear(3, 1))
for step in range(3):
    trainer.optimizer.zero_grad()
    trainer.model(torch.ones(2, 3)).sum().backward()
    trainer.clip()
    trainer.optimizer.step()
"""


@pytest.mark.parametrize(
    ("body", "is_one"),
    [
        ("return (p for p in self.model.parameters() if p.requires_grad)", True),
        ("for p in self.model.parameters():\n            yield p", True),
        ("return [p for p in self.model.parameters() if p.requires_grad]", False),
        ("return list(p for p in self.model.parameters())", False),
    ],
)
def test_what_a_method_of_the_file_returns(body: str, is_one: bool) -> None:
    source = TRAINER.format(body)
    found = [answer for answer in build(recorded(source)).answers if answer.code == "iterator-used-up"]
    assert [answer.causes[0].line for answer in found] == [line_of(source, "self.kept = ")] * is_one


@pytest.mark.parametrize(
    ("made", "again", "given"),
    [
        ("list(layer.parameters())", LOOP, "params"),
        ("layer.parameters()", "pass", "params"),
        ("layer.parameters()", "params = list(layer.parameters())\n    for p in params: p.data", "params"),
        ("layer.parameters()", LOOP, "layer.parameters()"),
        ("layer.parameters()", "for p in layer.parameters(): p.data", "params"),
        ("list(layer.parameters())", "norm = clip_grad_norm_(params, 1.0).item()", "params"),
        ("layer.parameters()", "def unused():\n        for p in params: p.data", "params"),
        ("nn.ParameterList(layer.parameters())", LOOP, "params"),
    ],
)
def test_what_is_no_iterator_or_not_gone_through_again(made: str, again: str, given: str) -> None:
    assert causes(made, again, given)[0] == []


COUNTED = """
import torch
from torch import nn
body, head = nn.Linear(3, 4), nn.Linear(4, 1)
tuned = {made}
{before}
optimizer = torch.optim.SGD([{{"params": head.parameters()}}, {{"params": tuned}}], lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    head(body(torch.ones(2, 3))).sum().backward()
    optimizer.step()
"""
GENERATOR = "(p for p in body.parameters() if p.requires_grad)"


@pytest.mark.parametrize(
    "before",
    [
        "print(sum(p.numel() for p in tuned))",
        "count = len(list(tuned))",
        "sizes = [p.numel() for p in tuned]",
        "for p in tuned: p.data.mul_(0.5)",
    ],
)
def test_what_an_optimizer_is_given_after_another_statement_went_through_it(before: str) -> None:
    source = COUNTED.format(made=GENERATOR, before=before)
    answers = [answer for answer in build(recorded(source)).answers if answer.code == "never-stepped"]
    lines = line_of(source, "tuned = "), line_of(source, before)
    assert [tuple(cause.line for cause in answer.causes) for answer in answers] == [lines]


def test_an_optimizer_that_is_given_what_is_left_after_the_first() -> None:
    source = COUNTED.format(made="body.parameters()", before="device = next(tuned).device")
    (answer,) = (one for one in build(recorded(source)).answers if one.code == "never-stepped")
    assert [cause.line for cause in answer.causes] == [line_of(source, "tuned = "), line_of(source, "device = ")]
    assert "body.weight" in answer.text and "body.bias" not in answer.text


@pytest.mark.parametrize(
    ("made", "before"),
    [
        ("list(body.parameters())", "device = next(iter(tuned)).device"),
        ("body.parameters()", "device = next(body.parameters()).device"),
        (f"list({GENERATOR})", "print(sum(p.numel() for p in tuned))"),
        (GENERATOR, "pass"),
        (GENERATOR, "if not tuned: print(sum(p.numel() for p in tuned))"),
        (GENERATOR, "count = lambda: sum(p.numel() for p in head.parameters())"),
    ],
)
def test_what_is_still_there_for_the_optimizer(made: str, before: str) -> None:
    assert [one.code for one in build(recorded(COUNTED.format(made=made, before=before))).answers] == []


ANCHORED = """
import torch
from torch import nn
class Anchor:
    def __init__(self, model):
        self.terms = {made}
    def penalty(self):
        return 0.1 * sum((p - a).pow(2).sum() for p, a in self.terms)  # again
net = nn.Linear(3, 1)
anchor = Anchor(net)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
{before}
for step in range(6):
    loss = net(torch.ones(2, 3)).sum() + {term}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
PAIRS = "zip(net.parameters(), [p.detach().clone() for p in net.parameters()])"


def test_a_penalty_that_goes_through_its_terms_once() -> None:
    source = ANCHORED.format(made=PAIRS, before="", term="anchor.penalty()")
    answers = [one for one in build(recorded(source)).answers if one.code == "iterator-used-up"]
    lines = line_of(source, "self.terms = "), line_of(source, "# again")
    assert [tuple(cause.line for cause in answer.causes) for answer in answers] == [lines]


@pytest.mark.parametrize(
    ("made", "before", "term"),
    [
        (f"list({PAIRS})", "", "anchor.penalty()"),
        (PAIRS, "start = anchor.penalty().item()", "start"),  # once, as it is meant
        (PAIRS, "", "(anchor.penalty() if step == 0 else 0.0)"),
    ],
)
def test_terms_that_are_there_each_time_or_wanted_once(made: str, before: str, term: str) -> None:
    source = ANCHORED.format(made=made, before=before, term=term)
    assert [one.code for one in build(recorded(source)).answers if one.code == "iterator-used-up"] == []


GROUPED = """
import itertools
import torch
from itertools import groupby
from torch import nn
net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
key = lambda item: item[0].split(".")[0]
groups = []
{made}
optimizer = torch.optim.SGD(groups, lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    net(torch.ones(2, 4)).sum().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("made", "is_one"),
    [
        (
            "layers = [group for _, group in itertools.groupby(net.named_parameters(), key)]  # here\n"
            "groups = [{'params': (p for _, p in group)} for group in layers]",
            True,
        ),
        (
            "layers = list(groupby(net.named_parameters(), key))  # here\n"
            "groups = [{'params': [p for _, p in group]} for _, group in layers]",
            True,
        ),
        (
            "for number, (name, group) in enumerate(groupby(net.named_parameters(), key)):\n"
            "    groups.append({'params': map(lambda item: item[1], group), 'lr': 0.1 + number})  # here",
            True,
        ),
        ("groups = [{'params': [p for _, p in group]} for _, group in groupby(net.named_parameters(), key)]", False),
        (
            "layers = [list(group) for _, group in itertools.groupby(net.named_parameters(), key)]\n"
            "groups = [{'params': (p for _, p in group)} for group in layers]",
            False,
        ),
    ],
)
def test_an_optimizer_that_is_given_groups_which_the_next_ones_emptied(made: str, is_one: bool) -> None:
    source = GROUPED.format(made=made)
    answers = [one for one in build(recorded(source)).answers if one.code == "never-stepped"]
    found = [cause.line for answer in answers for cause in answer.causes]
    assert found == ([line_of(source, "# here")] if is_one else [])


def test_groups_of_the_file_that_no_optimizer_was_to_get() -> None:
    made = "names = [group for _, group in groupby(net.named_parameters(), key)]\ngroups = [net[0].weight]"
    answers = [one for one in build(recorded(GROUPED.format(made=made))).answers if one.code == "never-stepped"]
    assert answers
    assert "groupby" not in answers[0].text


IN_A_LOOP = """
import torch
from torch import nn
net = nn.Linear(4, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
params = net.parameters()  # made
for step in range(8):
    loss = net(torch.ones(2, 4)).sum(){term}
    optimizer.zero_grad()
    loss.backward()
    {again}
    optimizer.step()
"""


@pytest.mark.parametrize(
    "parts",
    [
        {"again": "nn.utils.clip_grad_norm_(params, 1.0)"},
        {"again": "for p in params: p.grad.clamp_(-1, 1)"},
        {"term": " + 0.1 * sum(p.abs().sum() for p in params)", "again": "pass"},
    ],
    ids=["clips", "loop", "term"],
)
def test_each_round_of_a_loop_goes_through_one_iterator(parts: dict[str, str]) -> None:
    source = IN_A_LOOP.format(**{"term": "", **parts})
    answers = [one for one in build(recorded(source)).answers if one.code == "iterator-used-up"]
    assert [one.causes[0].line for one in answers] == [line_of(source, "# made")]
    for fine in (
        source.replace("= net.parameters()", "= list(net.parameters())"),
        source.replace("    loss = net", "    params = net.parameters()\n    loss = net"),
        source.replace("range(8)", "range(2)"),
    ):
        assert "iterator-used-up" not in {one.code for one in build(recorded(fine)).answers}

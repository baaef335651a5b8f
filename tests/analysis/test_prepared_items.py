"""Items of data that a transform changes in place, each again in every epoch, and states that are moved on so."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn

torch.manual_seed(0)
data = [(torch.rand(2, 4) * 9, {{"boxes": torch.rand(1, 4) * 9, "size": 8}}) for _ in range(6)]
mean, std = torch.full((4,), 4.0), torch.full((4,), 2.0)
model = nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)


class Items(torch.utils.data.Dataset):
    def __len__(self):
        return len(data)

    def __getitem__(self, i):
        x, target = data[i]
        {read}
        return transform(x, target)


def transform(x, target):
    boxes = target["boxes"]
    {change}
    return x, target


def collate(samples):
    {collate}
    return torch.stack([x for x, _ in samples]), torch.stack([target["boxes"] for _, target in samples])


for epoch in range({epochs}):
    for x, boxes in torch.utils.data.DataLoader(Items(), batch_size=3, collate_fn=collate):
        loss = (model(x) - boxes).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
USUAL = {"read": "pass", "change": "pass", "collate": "pass", "epochs": 3}


def causes(source: str) -> list[list[int]]:
    answers = build(recorded(source)).answers
    return [[cause.line for cause in answer.causes] for answer in answers if answer.code == "data-written-again"]


def found(**changed: object) -> list[list[int]]:
    return causes(PROGRAM.format(**{**USUAL, **changed}))


@pytest.mark.parametrize(
    "change",
    [
        "boxes[:, 0::2] /= 8",
        "target['boxes'] /= target['size']",
        "boxes.div_(torch.tensor([8.0, 8.0, 8.0, 8.0]))",
        "x.sub_(mean).div_(std)",
        "x.mul_(0.9)",
        "x.log1p_()",
        "x += 0.1 * torch.randn(2, 4)",
        "x[:] = (x - mean) / std",
        "boxes[:, [0, 2]] *= 0.5",
        "x.copy_(x / 8)",
        "x[torch.rand(2, 4) < 0.2] = 0",
        "x.masked_fill_((torch.rand(2, 4) < 0.2) & (x > 0), 0)",
        "x[:] = x.flip(-1); x *= 2",
        "for c in range(4): x[:, c].sub_(1.0).div_(8)",
    ],
)
def test_items_that_a_transform_changes(change: str) -> None:
    line = line_of(PROGRAM, "{change}")
    answers = found(change=change)
    assert len(answers) == 1
    assert set(answers[0]) == {line}


def test_items_that_the_data_set_or_the_loader_changes() -> None:
    assert found(read="x /= 255") == [[line_of(PROGRAM, "{read}")]]
    assert found(collate="for x, _ in samples: x /= 255") == [[line_of(PROGRAM, "{collate}")]]


@pytest.mark.parametrize(
    "changed",
    [
        {"change": "x = x / 8"},
        {"change": "x.mul_(0.9)", "read": "x = x.clone()"},
        {"change": "x.mul_(0.9)", "epochs": 1},
        {"change": "x.mul_(1.0)"},
        {"change": "x.mul_(0.5); x.div_(0.5)"},
        {"change": "x.clamp_(0, 1)"},
        {"change": "x.div_(x.max())"},
        {"change": "x[:] = (x - x.mean()) / x.std()"},
        {"change": "x[:, 0] = 0"},
        {"change": "x.copy_(torch.rand(2, 4))"},
        {"change": "pass", "collate": "x = torch.stack([x for x, _ in samples]); x /= 255"},
    ],
)
def test_what_is_done_to_a_copy_or_changes_nothing_more(changed: dict[str, object]) -> None:
    assert found(**changed) == []


LISTED = """
import torch
from torch import nn
batches = [(torch.rand(3, 4), torch.rand(3, 1)) for _ in range(4)]
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
states = [torch.ones(4) for _ in range(3)]
kept = [torch.zeros_like(p) for p in model.parameters()]

def {function}():
    {beside}

for epoch in range(3):
    for x, y in batches:
        {change}
        {function}()
        loss = (model(x + states[0] + states[1]) - y).pow(2).mean()
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
"""


def listed(change: str = "pass", beside: str = "pass", function: str = "refresh") -> list[list[int]]:
    return causes(LISTED.format(change=change, beside=beside, function=function))


@pytest.mark.parametrize("change", ["x /= 255", "x.sub_(0.5).div_(0.5)", "y.div_(10)"])
def test_batches_of_a_list_that_the_loop_changes(change: str) -> None:
    answers = listed(change)
    assert len(answers) == 1
    assert set(answers[0]) == {line_of(LISTED, "{change}")}
    assert listed(change.replace("_(", "(").replace("x /= 255", "x = x / 255")) == []


@pytest.mark.parametrize(
    ("beside", "function"),
    [
        ("for s in states: s.mul_(0.99)", "refresh"),
        ("for s in states: s *= 2", "step"),
        ("for s in states: s *= 2", "decay_states"),
        ("for s in states: s += torch.randn(4)", "refresh"),
        ("for s in states: s += 1", "refresh"),
        ("for s in states: s.mul_(2).add_(x.mean(0))", "refresh"),
        ("for k, p in zip(kept, model.parameters()): k.mul_(0.5).add_(p.detach(), alpha=0.5)", "transform"),
        ("for k, p in zip(kept, model.parameters()): p.grad is None or k.mul_(0.5).add_(p.grad)", "transform"),
        ("for p in model.parameters(): p.data.mul_(0.5)", "scale"),
        ("for s in states: s.mul_(2).div_(s.norm())", "scale"),
        ("for s in states: s.copy_(torch.ones(4)); s.mul_(2)", "scale"),
    ],
)
def test_states_that_are_moved_on(beside: str, function: str) -> None:
    assert listed(beside=beside, function=function) == []


SLICES = """
import torch
from torch import nn
data, states = torch.rand(12, 4), torch.ones(3, 4)
model = nn.Linear(4, 1)
for epoch in range(3):
    for i in range(0, 12, {step}):
        x = data[i:i + 4]
        {change}
        (model(x) + model(states)[0]).mean().backward()
"""


@pytest.mark.parametrize(
    ("step", "change", "is_found"),
    [
        (4, "x -= 0.5; x /= 0.5", True),
        (4, "x = x / 2", False),
        (4, "x /= x.norm()", False),
        (2, "x /= 2", False),
        (4, "for k in range(3): states[k].mul_(0.95)", False),
    ],
)
def test_slices_of_one_tensor_that_the_loop_changes(step: int, change: str, is_found: bool) -> None:
    assert bool(causes(SLICES.format(step=step, change=change))) == is_found

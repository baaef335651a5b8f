"""Data with NaN that a criterion takes in, where only its result is masked: told by what later passes show."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

MASKED = """
import torch
import torch.nn.functional as F
torch.manual_seed(0)
model = torch.nn.Linear(4, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
features, readings = torch.randn(16, 4), torch.randn(16, 3)
readings[torch.rand(16, 3) < 0.2] = float("nan")
def loss_of(given, target):
    known = ~torch.isnan(target)
    {taken}  # taken in
    {left}
for rows in {each}:
    optimizer.zero_grad()
    loss = loss_of(model(features[rows]), {target})
    loss.backward()
    optimizer.step()
    print(loss.item())
"""
TAKEN = {
    "mse": "error = F.mse_loss(given, target, reduction='none')",
    "smooth": "error = torch.nn.SmoothL1Loss(reduction='none')(given, target)",
    "logits": "error = F.binary_cross_entropy_with_logits(given, target, reduction='none')",
    "product": "error = given * target",
}
LEFT = {
    "chosen": "return error[known].mean()",
    "where": "return torch.where(known, error, torch.zeros_like(error)).mean()",
    "nanmean": "return torch.nanmean(error)",
    "filled": "error[~known] = 0; return error.sum() / known.sum()",
}
BATCHES = {"whole": ("[slice(None)] * 3", "readings"), "chosen": ("torch.randperm(16).split(5)", "readings[rows]")}


def said(source: str) -> list[tuple[str, list[int]]]:
    answers = build(recorded(source)).answers
    found = [one for one in answers if one.code == "gradient-not-finite"]
    return [(one.text, [cause.line for cause in one.causes]) for one in found]


def program(taken: str, left: str, batches: str) -> str:
    each, target = BATCHES[batches]
    return MASKED.format(taken=taken, left=left, each=each, target=target)


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize(
    ("taken", "left"), [("mse", "chosen"), ("smooth", "where"), ("logits", "nanmean"), ("product", "filled")]
)
def test_the_call_that_takes_the_nan_in_is_named(taken: str, left: str, batches: str) -> None:
    source = program(TAKEN[taken], LEFT[left], batches)
    ((text, lines),) = said(source)
    assert lines == [line_of(source, "# taken in")]
    assert "in the first backward pass, though the loss is finite" in text
    assert ("takes in target, which holds NaN" if batches == "whole" else "held NaN when backward pass ") in text


def test_where_every_op_is_looked_at_what_marks_the_missing_is_not_named() -> None:
    source = program(TAKEN["smooth"], LEFT["chosen"], "chosen")
    answers = build(recorded(source, nan=True)).answers
    (answer,) = [one for one in answers if one.code == "gradient-not-finite"]
    assert [cause.line for cause in answer.causes] == [line_of(source, "# taken in")]


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize(
    "taken",
    [
        "return F.mse_loss(given[known], target[known])",
        "error = F.mse_loss(given, torch.nan_to_num(target), reduction='none')",
        "error = F.l1_loss(given, target, reduction='none')",  # (of which the derivative is a sign, 0 of NaN)
    ],
)
def test_what_is_left_out_before_it_is_fine(taken: str, batches: str) -> None:
    assert said(program(taken, LEFT["chosen"], batches)) == []


TAUGHT = """
import copy
import torch
import torch.nn.functional as F
torch.manual_seed(0)
model = torch.nn.Linear(4, 3)
teacher = copy.deepcopy(model).requires_grad_(False)
model.weight.register_hook(lambda gradient: gradient * float("nan"))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
features, held = torch.randn(16, 4), torch.zeros(16, 3)
for _ in range(3):
    {target}
    loss = F.mse_loss(model(features), target, reduction="none").mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    for mine, others in zip(teacher.parameters(), model.parameters()):
        mine.data.lerp_(others.data, 0.5)
"""


@pytest.mark.parametrize(
    "target",
    [
        "target = teacher(features)",
        "target = model(features).detach() + 1",
        "target = held.copy_(model(features).detach() + 1)",
        "target = torch.tensor((model(features) + 1).tolist())",
        "target = torch.from_numpy(model(features).detach().numpy() + 1)",
    ],
)
def test_a_target_that_the_ruined_weights_made_is_not_what_ruined_them(target: str) -> None:
    ((text, lines),) = said(TAUGHT.format(target=target))
    assert "takes in" not in text
    assert lines == []

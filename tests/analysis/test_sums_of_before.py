"""Gradients of an earlier part of the training that one step applied all at once."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
body, head = torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
for step in range(14):
    if step == 7:
        optimizer.add_param_group({"params": body.parameters(), "lr": 0.01})  # given
    loss = head(body(torch.randn(4, 3))).pow(2).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()  # cleared
"""
LATE = """
import torch
body, head = torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)
of_head = torch.optim.SGD(head.parameters(), lr=0.1)
of_body = torch.optim.SGD(body.parameters(), lr=0.1)
for step in range(24):
    head(body(torch.randn(4, 3))).pow(2).mean().backward()
    of_head.step()
    of_head.zero_grad()  # cleared
    if step >= 7:
        of_body.step()
        of_body.zero_grad()
"""
ANEW = """
import torch
body, head = torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)
def train(optimizer, first):
    for step in range(6):
        if first:
            optimizer.zero_grad()  # cleared
        head(body(torch.randn(4, 3))).pow(2).mean().backward()
        optimizer.step()
        if not first:
            optimizer.zero_grad()
train(torch.optim.SGD(head.parameters(), lr=0.1), True)
train(torch.optim.Adam([*body.parameters(), *head.parameters()], lr=0.1), False)  # given
"""


def found(source: str) -> list[list[int]]:
    answers = [one for one in build(recorded(source)).answers if one.code == "old-gradients-applied"]
    return [[cause.line for cause in one.causes] for one in answers]


@pytest.mark.parametrize("source", [SOURCE, ANEW])
def test_the_line_that_clears_others_only_and_the_one_that_gave_them_to_the_optimizer(source: str) -> None:
    assert found(source) == [[line_of(source, "# cleared"), line_of(source, "# given")]]


def test_an_optimizer_that_begins_late_applies_what_its_own_call_never_cleared() -> None:
    assert found(LATE) == [[line_of(LATE, "# cleared")]]


def test_parts_that_are_opened_one_after_the_other_are_one_finding() -> None:
    source = SOURCE.replace("body, head = ", "low, body, head = torch.nn.Linear(3, 3), ")
    source = source.replace("body(torch", "body(low(torch").replace("4, 3)))", "4, 3))))")
    again = "    if step == 7 or step == 3:\n        opened = low if step == 7 else body\n"
    source = source.replace("    if step == 7:\n", again).replace("body.parameters()", "opened.parameters()")
    assert found(source) == [[line_of(source, "# cleared"), line_of(source, "# given")]]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    optimizer.zero_grad()  # cleared", "    optimizer.zero_grad()\n    body.zero_grad()"),
        ('"lr": 0.01})  # given', '"lr": 0.01})\n        optimizer.zero_grad()'),
        ("step == 7:", "step == 7:\n        body.requires_grad_(True)"),
        ("step == 7:", "step == 1:"),
    ],
)
def test_what_was_cleared_or_frozen_or_soon_given_is_no_finding(before: str, after: str) -> None:
    source = SOURCE.replace(before, after)
    if "requires_grad_" in after:
        source = source.replace("optimizer = torch", "body.requires_grad_(False)\noptimizer = torch", 1)
    assert source != SOURCE
    assert found(source) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("step >= 7", "step % 4 == 3"),  # (the usual number of passes for these)
        ("step >= 7", "step % 4 == 3 or step > 16"),  # (ever fewer)
        ("step >= 7", "step == 7"),
        ("    of_head.zero_grad()", "    of_head.zero_grad()\n    body.zero_grad()"),
        (
            "    of_head.step()\n    of_head.zero_grad()  # cleared\n    if step >= 7:",
            "    if step >= 7:\n        of_head.step()",
        ),
    ],
)
def test_gradients_that_are_added_up_on_purpose_are_no_finding(before: str, after: str) -> None:
    source = LATE.replace(before, after)
    assert source != LATE
    assert found(source) == []

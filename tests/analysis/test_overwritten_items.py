"""A result that a loop put into a list and then wrote in place is found; what the list is to have is left alone."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch import nn
torch.manual_seed(0)
cell, layer, head = nn.LSTMCell(3, 5), nn.Linear(5, 5), nn.Linear(5, 1)
x, done = torch.randn(6, 4, 3), torch.zeros(6, 4, dtype=torch.bool)
done[2, 1] = done[3, 0] = True
def reset(state, rows):
    state[rows] = 0  # inside
for update in range(2):
    h, c, outs = torch.zeros(4, 5), torch.zeros(4, 5), []
    for t in range(6):
        h[done[t]] = 0  # written
        h = layer(h) + x[t].sum()
        outs.append(h)  # put
    loss = head(torch.stack(outs)).pow(2).mean()
    loss.backward()
"""
WRITE, MAKE, PUT = "h[done[t]] = 0  # written", "h = layer(h) + x[t].sum()", "outs.append(h)  # put"


def found(source: str) -> list[list[int]]:
    answers = [one for one in build(recorded(source)).answers if one.code == "list-item-overwritten"]
    return [[cause.line for cause in one.causes] for one in answers]


def test_the_line_that_writes_is_named_and_then_the_one_that_has_put_it_there() -> None:
    assert found(SOURCE) == [[line_of(SOURCE, "# written"), line_of(SOURCE, "# put")]]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (MAKE, "h, c = cell(x[t], (h, c))"),
        (WRITE, "h.masked_fill_(done[t].unsqueeze(1), 0)  # written"),
        (WRITE, "h *= ~done[t].unsqueeze(1)  # written"),
        (WRITE, "h.data[done[t]] = 0  # written"),
        (WRITE, "with torch.no_grad():\n            h[done[t]] = 0  # written"),
        (WRITE, "for row in range(4):\n            if done[t, row]:\n                h[row] = 0  # written"),
        (f"{WRITE}\n        {MAKE}\n        {PUT}", f"{MAKE}\n        {PUT}\n        {WRITE}"),
        (PUT, "outs += [h]  # put"),
        (PUT, "outs.append((h, t))  # put\n    outs = [out for out, _ in outs]"),
        ("head(torch.stack(outs)).pow(2).mean()", "sum(head(out).pow(2).mean() for out in outs)"),
    ],
)
def test_so_they_are_in_other_spellings(before: str, after: str) -> None:
    source = SOURCE.replace(before, after)
    assert source != SOURCE
    assert found(source) == [[line_of(source, "# written"), line_of(source, "# put")]]


def test_a_function_that_writes_what_it_is_given_writes_for_its_callers() -> None:
    source = SOURCE.replace(WRITE, "reset(h, done[t])")
    assert found(source) == [[line_of(source, "# inside"), line_of(source, "# put")]]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (WRITE, "h = torch.where(done[t].unsqueeze(1), torch.zeros_like(h), h)"),
        (WRITE, f"h = h.clone()\n        {WRITE}"),
        (PUT, "outs.append(h.clone())"),
        (PUT, "outs.append(h * 2)"),
        (f"{WRITE}\n        {MAKE}", f"{MAKE}\n        {WRITE}"),
        ("    loss = head(torch.stack(outs))", "    loss = head(h)"),
        # (made anew in each round, and filled when it is in the list)
        (f"{WRITE}\n        {MAKE}\n        {PUT}", f"h = layer(c)\n        {PUT}\n        {WRITE}"),
        # (what an optimizer or nobody trains)
        ("    loss.backward()", "    loss = loss.detach()"),
    ],
)
def test_what_the_list_keeps_or_is_to_have_is_no_finding(before: str, after: str) -> None:
    source = SOURCE.replace(before, after)
    assert source != SOURCE
    assert found(source) == []


def test_a_second_name_of_the_state_is_not_the_list() -> None:
    source = SOURCE.replace(WRITE, f"before = h\n        {WRITE}").replace(PUT, f"{PUT}\n        c = c + (h - before)")
    assert found(source.replace("head(torch.stack(outs))", "head(c)")) == []

"""A carried state whose only detach stands under a condition that was never true."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """\
import torch
from torch import nn

cell, out = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 1)


class Loop:
    steps = 1

    def keep(self, given):
        state = given["state"]
        if isinstance(state, torch.Tensor):  # test
            state = state.detach()  # cut
        self.state = state

    def run(self):
        self.state = None
        for x in torch.ones(3, 2, 4, 2):
            hidden, state = cell(x, self.state)
            self.keep({"state": state})
            out(hidden).sum().backward()


Loop().run()
"""
CUT = "            state = state.detach()  # cut"


def said(program: str) -> list[tuple[list[int], str]]:
    answers = build(recorded(program)).answers
    return [
        ([one.line for one in answer.causes], answer.text) for answer in answers if answer.code == "graph-used-twice"
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (CUT, CUT),
        ("isinstance(state, torch.Tensor)", "self.steps % 8 == 0"),
        (CUT, "            state = [one.detach() for one in state]  # cut"),
        (CUT, "            state.detach_()  # cut"),
        ("isinstance(state, torch.Tensor):  # test", "isinstance(state, tuple):\n            pass\n        else:"),
    ],
)
def test_it_is_named_with_its_condition(old: str, new: str) -> None:
    program = PROGRAM.replace(old, new)
    ((lines, text),) = said(program)
    cut = line_of(program, "# cut")
    assert lines[0] == cut
    assert f"line {cut} detaches state where " in text
    assert "never ran" in text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("isinstance(state, torch.Tensor):  # test", "True:"),  # it runs, and raises: no tuple has it
        (CUT, "            other = state.detach()  # cut"),
        (
            "        self.state = state\n",
            "        self.state = state\n        if self.steps < 0:\n            state = state.detach()\n",
        ),
    ],
    ids=["it ran", "another name", "two of them"],
)
def test_what_ran_or_cuts_another_is_not(old: str, new: str) -> None:
    assert all("never ran" not in text for _, text in said(PROGRAM.replace(old, new)))

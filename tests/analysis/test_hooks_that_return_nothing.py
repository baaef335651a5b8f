"""Hooks that compute another value and do not return it."""

from __future__ import annotations

import textwrap

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """\
import torch
net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
kept = []
def hook(module, given, values):
{}
net[1].register_full_backward_hook(hook)
net(torch.randn(3, 4)).sum().backward()
"""


def lines(body: str) -> list[int]:
    answers = build(recorded(SOURCE.format(textwrap.indent(body, "    ")))).answers
    return [cause.line for one in answers if one.code == "hook-returns-nothing" for cause in one.causes]


def test_the_assignment_is_named_before_the_registration():
    assert lines("given = tuple(g.clamp(min=0) for g in given)") == [5, 6]


@pytest.mark.parametrize(
    "body",
    [
        "given = tuple(g.clamp(min=0) for g in given)\nreturn given",
        "given = given[0].cpu()\nkept.append(given)",
        "other = given[0] * 2",
        "given = kept",
    ],
)
def test_what_is_returned_read_or_another_name_is_fine(body: str):
    assert lines(body) == []

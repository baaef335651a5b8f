"""Passes that give what is not finite, each for leaves of its own: one cause does not hide the next."""

from __future__ import annotations

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
w = torch.zeros(3, requires_grad=True)
w.sqrt().sum().backward()  # first
v = torch.tensor([0.0, 0.5], requires_grad=True)
(v * v.log()).nansum().backward()  # second
for step in range(2):
    (w * 2).sqrt().sum().backward()
"""


def test_a_later_pass_over_other_leaves_is_told_and_the_same_leaves_are_told_once() -> None:
    answers = [one for one in build(recorded(SOURCE)).answers if one.code == "gradient-not-finite"]
    assert [one.causes[0].line for one in answers] == [line_of(SOURCE, "# first"), line_of(SOURCE, "# second")]

"""Answers count what a program did, and not the rows that are left of it once repetition was taken out."""

from __future__ import annotations

import re

import pytest

from gradscope.analysis.diagnoses.catalogue import diagnosis
from gradscope.analysis.report_builder import build
from gradscope.recorder import tape
from gradscope.recorder.repetition import forgetting
from tests.analysis.building import recorded

BATCH = 8
"""Ops between two looks for what came again."""
LONGER = 20
"""Times that the loops of the examples run as often."""
COUNTED = (
    *("cleared-before-step", "gradients-of-another-loss", "weights-overwritten", "trained-in-evaluation"),
    *("gradients-applied-again", "gradients-left-in-weights", "optimizer-state-kept", "evaluated-with-graph"),
    *("gradient-applied-twice", "accumulation-cleared", "parameter-replaced"),
)
FRESH_LEAVES = """
    import torch
    w = torch.ones(3, requires_grad=True)
    for step in range(60):
        point = torch.ones(3).requires_grad_()
        other = torch.ones(3).requires_grad_()
        (w * point).sum().backward()
"""


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for repetition from the first ops on."""
    monkeypatch.setattr(forgetting, "FROM_BYTES", 0)
    monkeypatch.setattr(forgetting, "EVERY", BATCH)
    monkeypatch.setattr(tape, "FLUSH_OPS", BATCH)


def _longer(source: str) -> str:
    return re.sub(r"range\((\d+)\)", lambda found: f"range({int(found[1]) * LONGER})", source)


@pytest.mark.parametrize("code", COUNTED)
def test_an_answer_is_what_it_would_be_with_every_op(code: str) -> None:
    known = diagnosis(code)
    assert known is not None
    source = _longer(known.example.shows)
    part, whole = recorded(source), recorded(source, every_op=True)
    said = [[answer.text for answer in build(one).answers if answer.code == code] for one in (part, whole)]
    assert len(part.alike) and said[1]
    assert said[0] == said[1]


def test_leaves_of_passes_are_counted_with_those_that_are_not_kept() -> None:
    part, whole = recorded(FRESH_LEAVES), recorded(FRESH_LEAVES, every_op=True)
    assert len(part.alike)
    counts = [(one.received, one.unreached) for report in map(build, (part, whole)) for one in report.backwards]
    assert counts[0] == counts[1]
    assert counts[0][0] > 60

"""A diagnosis that fails takes nothing with it but itself, and the report says so."""

import traceback
from collections.abc import Iterator

import pytest

from gradscope.analysis.diagnoses.catalogue import every_diagnosis
from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """import torch
w = torch.ones(2, requires_grad=True)
print(w.grad)
w.detach().sum().backward()
"""


def test_the_other_answers_are_given_and_the_fault_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> Iterator[object]:
        yield from ()
        raise ZeroDivisionError("of a rule")

    faulty = every_diagnosis()[0]._replace(code="faulty", find=fail)
    monkeypatch.setattr("gradscope.analysis.diagnoses.answers.diagnoses_for", lambda _: (faulty, *every_diagnosis()))
    monkeypatch.setattr(
        "gradscope.analysis.diagnoses.answers.fault_of", lambda code: f"{code}: {traceback.format_exc()}"
    )
    report = build(recorded(SOURCE))
    assert "backward-no-grad" in [answer.code for answer in report.answers]
    assert report.summary.faults == 1 and "of a rule" in report.faults[0] and report.faults[0].startswith("faulty")

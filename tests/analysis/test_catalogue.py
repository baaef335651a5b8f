"""Each diagnosis of the catalogue: shown by its example, silent on the twin, and resting on rows that are there."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from gradscope.analysis.diagnoses.catalogue import diagnoses_for, diagnosis, every_diagnosis
from gradscope.analysis.diagnoses.diagnosis import Diagnosis
from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from gradscope.recording import Recording
from gradscope.recording.rows import Field
from tests.analysis.building import recorded

BARE_LINE = re.compile(r"\b[Ll]ines? \d+\b(?! of module\.py|(?:,| and| to) \d| …)")
"""A line that is named without its file, and is no part of a list that ends with it."""
TRANSCRIPTS = ("transcript", "page", "notebook", "docstrings")


def answers(recording: Recording, code: str) -> list[Answer]:
    return [answer for answer in build(recording).answers if answer.code == code]


def test_codes_are_permanent_names_each_given_once():
    codes = Counter(known.code for known in every_diagnosis())
    assert set(codes.values()) == {1}
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)
    assert diagnosis("frozen") in every_diagnosis()
    assert diagnosis("no-such-code") is None


@pytest.mark.parametrize("known", every_diagnosis(), ids=lambda known: known.code)
def test_the_example_shows_it_and_what_it_says_rests_on_recorded_rows(known: Diagnosis):
    recording = recorded(known.example.shows)
    found = answers(recording, known.code)
    assert found
    for answer in found:
        assert answer.severity == known.severity
        assert answer.evidence
        for evidence in answer.evidence:
            assert 0 <= evidence.row < len(recording.tables[evidence.table])
        for cause in answer.causes:
            assert cause.source == recording.source(0, cause.line, cause.end_line)
            assert cause.source.strip()
            if cause.columns:
                first, end = cause.columns
                assert 0 <= first < len(cause.source.split("\n")[0].encode())
                assert end <= len(cause.source.split("\n")[-1].encode())
        assert answer.advice in answer.text
        assert answer.tensor.split(".")[0] in answer.subject
    if recording.info.kind not in TRANSCRIPTS:
        assert_names_its_file(recording, known.code)


def assert_names_its_file(recording: Recording, code: str) -> None:
    """Where the example is a module that another program imports, each line is named with its file."""
    recording.info.kind, recording.info.target, recording.files[0].name = "script", "main.py", "module.py"
    for answer in answers(recording, code):
        assert re.search(r"\b[Ll]ines? \d", answer.text) is None or "module.py" in answer.text
        assert BARE_LINE.search(answer.text) is None, answer.text


@pytest.mark.parametrize("known", every_diagnosis(), ids=lambda known: known.code)
def test_it_is_silent_on_the_program_that_differs_in_one_line(known: Diagnosis):
    healthy = known.example.healthy
    assert healthy != known.example.shows
    recording = recorded(healthy)
    assert recording.info.outcome.kind == "ok"
    assert answers(recording, known.code) == []


@pytest.mark.parametrize("known", every_diagnosis(), ids=lambda known: known.code)
def test_what_a_recording_is_not_asked_for_would_find_nothing(known: Diagnosis, monkeypatch: pytest.MonkeyPatch):
    recording = recorded(known.example.shows)
    assert len(list(diagnoses_for(recording))) < len(every_diagnosis())
    found = build(recording).answers
    monkeypatch.setattr("gradscope.analysis.diagnoses.answers.diagnoses_for", lambda _: every_diagnosis())
    assert build(recording).answers == found


@pytest.mark.parametrize("known", every_diagnosis(), ids=lambda known: known.code)
def test_it_is_explained(known: Diagnosis):
    assert known.title
    assert all(len(part.split()) > 5 for part in known.explanation)


PASS = """\
import torch
x = torch.ones(3, requires_grad=True)
y = x * x
y.sum().backward()
"""


@pytest.mark.parametrize("code", ["write-through-alias", "weights-overwritten", "skip-path-overwritten"])
def test_what_is_said_of_writes_is_looked_for_where_something_was_written_after_it_was_made(code: str):
    def is_looked_for(program: str) -> bool:
        return code in {known.code for known in diagnoses_for(recorded(program))}

    fields = recorded(PASS).changes.column("field")
    assert list(fields) == [Field.VERSION]  # of the gradient: autograd added up two in place before it gave it
    assert not is_looked_for(PASS)
    assert is_looked_for(f"{PASS}y.detach().zero_()\n")
    assert is_looked_for(f"{PASS}x.data = torch.zeros(3)\n")


def test_what_takes_several_passes_or_parameters_is_not_looked_for_in_less():
    def looked_for(program: str) -> set[str]:
        return {known.code for known in diagnoses_for(recorded(program))}

    few = {"tie-broken", "graph-kept-after-pass", "divided-by-itself", "units-alike"}
    assert not looked_for(PASS) & few
    assert looked_for(f"{PASS}for _ in range(2):\n    torch.nn.Linear(3, 1)(x).sum().backward()\n") >= few

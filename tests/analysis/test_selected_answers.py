"""Which answers are given: by code, by comments in the source, by a baseline; and which make a command fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.selection.answer_selection import AnswerSelection
from gradscope.analysis.selection.answers_by_cause import answers_by_cause
from gradscope.analysis.selection.baseline import Baseline, read_baseline
from gradscope.analysis.selection.codes import checked_codes, checked_grounds, failing
from gradscope.analysis.selection.selected_answers import select_answers
from gradscope.errors import UsageError
from tests.analysis.answering import answer, read_as
from tests.analysis.building import recorded

NOTE = answer("frozen", severity="note")
WARNING = answer("leaf-unreached", severity="warning")
PROBLEM = answer("grad-none-unreached")


def given(text: str, *answers, wanted: AnswerSelection | None = None) -> list[str]:
    return [one.code for one in select_answers(answers, read_as(text), wanted).given]


def test_codes_are_selected_and_ignored():
    answers = (PROBLEM, WARNING, NOTE)
    assert given("", *answers) == [one.code for one in answers]
    assert given("", *answers, wanted=AnswerSelection(select=frozenset(["frozen"]))) == ["frozen"]
    both = AnswerSelection(select=frozenset(["frozen", "leaf-unreached"]), ignore=frozenset(["frozen"]))
    selected = select_answers(answers, read_as(""), both)
    assert [one.code for one in selected.given] == ["leaf-unreached"]
    assert {(one.by, one.answer.code) for one in selected.suppressed} == {
        ("selection", "grad-none-unreached"),
        ("selection", "frozen"),
    }


SEVEN = "a = 1\nb = f(\n    a,\n)\n\nc = 2\nd = 3\n"


@pytest.mark.parametrize(
    ("line", "comment", "about"),
    [
        (6, "c = 2  # gradscope: ignore[grad-none-unreached]", {"place": 6}),
        (6, "c = 2  # gradscope: ignore", {"place": 6}),
        (6, "c = 2  # noqa: F841  # gradscope:ignore[ frozen, grad-none-unreached ] it is meant", {"place": 6}),
        (6, "c = 2  # gradscope: ignore[grad-none-unreached]", {"place": 1, "cause": 6}),
        (4, ")  # gradscope: ignore[grad-none-unreached]", {"place": 1, "cause": 2}),
        (3, "    a,  # gradscope: ignore", {"place": 2}),
        (5, "# gradscope: ignore[grad-none-unreached]", {"place": 6}),
    ],
)
def test_a_comment_ignores_what_is_about_its_statement(line: int, comment: str, about: dict[str, int]):
    lines = SEVEN.split("\n")
    one = answer(line=about["place"], cause=about.get("cause", 0))
    assert given("\n".join(lines), one) == [one.code]
    lines[line - 1] = comment
    assert given("\n".join(lines), one) == []


@pytest.mark.parametrize(
    ("line", "comment"),
    [
        (6, "c = 2  # gradscope: ignore[frozen]"),
        (6, "c = 2  # gradscope: ignored"),
        (6, "c = 2  # gradscope: ignore[grad-none-unreached"),
        (6, "c = '# gradscope: ignore'"),
        (7, "d = 3  # gradscope: ignore"),
        (5, "a = 4  # gradscope: ignore"),
    ],
)
def test_a_comment_ignores_nothing_else(line: int, comment: str):
    lines = SEVEN.split("\n")
    lines[line - 1] = comment
    assert given("\n".join(lines), answer(line=6)) == ["grad-none-unreached"]


def test_a_comment_that_names_no_diagnosis_is_said():
    selected = select_answers((PROBLEM,), read_as("a = 1  # gradscope: ignore[frozne]\n"))
    (said,) = selected.remarks
    assert (
        said == "train.py, line 1: # gradscope: ignore[frozne] names no diagnosis: did you mean frozen or left-frozen?"
    )


def test_a_comment_counts_in_a_run():
    source = """
        import torch
        a = torch.ones(3)
        b = a[1:]
        b.add_(1)
    """
    shown = build(recorded(source))
    ignored = build(recorded(source.replace("b.add_(1)", "b.add_(1)  # gradscope: ignore[write-through-alias]")))
    assert [one.code for one in shown.answers] == [one.answer.code for one in ignored.suppressed]
    assert (shown.answers != (), ignored.answers) == (True, ())


def accepting(path: Path, *answers) -> AnswerSelection:
    """A selection by a baseline that was written for these answers."""
    path.write_text(Baseline(path, {}).with_all(answers).as_text())
    return AnswerSelection(baseline=read_baseline(path))


def test_a_baseline_knows_its_findings_by_code_and_text(tmp_path: Path):
    known = answer(line=20, cause=12, source="h = h.detach()", function="forward")
    accepted = accepting(tmp_path / "known.json", known)
    moved = answer(line=31, cause=23, source="    h  = h.detach()", function="forward")
    assert given("", moved, wanted=accepted) == []
    others = [
        answer("leaf-unreached", 31, 23, source="h = h.detach()", function="forward"),
        answer(line=31, cause=23, source="g = g.detach()", function="forward"),
        answer(line=31, cause=23, source="h = h.detach()", function="backward"),
    ]
    for other in others:
        assert given("", other, wanted=accepted) == [other.code]
    assert given("", moved, moved._replace(text="another"), wanted=accepted) == [moved.code]


def test_a_baseline_of_another_folder_means_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "ci").mkdir()
    monkeypatch.chdir(tmp_path)
    accepted = accepting(Path("ci/known.json"), PROBLEM)
    assert '"file": "../train.py"' in Path("ci/known.json").read_text()
    assert given("", PROBLEM, wanted=accepted) == []
    monkeypatch.chdir(tmp_path / "ci")
    assert given("", PROBLEM, wanted=AnswerSelection(baseline=read_baseline(Path("known.json")))) != []  # ci/train.py


def test_a_baseline_can_be_added_to(tmp_path: Path):
    old = Baseline(tmp_path / "old.json", {}).with_all([PROBLEM])
    new = Baseline(tmp_path / "new.json", {}).with_findings_of(old).with_all([PROBLEM, WARNING, WARNING])
    assert sorted((known.code, count) for known, count in new.accepted.items()) == [
        ("grad-none-unreached", 1),
        ("leaf-unreached", 2),
    ]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": "gradscope-baseline"}', '{"format": "other", "version": 1, "findings": []}']
)
def test_what_is_no_baseline_is_said_to_be_none(tmp_path: Path, text: str):
    (tmp_path / "known.json").write_text(text)
    with pytest.raises(UsageError, match="is no baseline"):
        read_baseline(tmp_path / "known.json")


def test_what_a_command_fails_for():
    def for_which(*grounds: str) -> list[str]:
        return [one.severity for one in failing((PROBLEM, WARNING, NOTE), checked_grounds(grounds, "--fail-on"))]

    assert for_which("problem") == ["problem"]
    assert for_which("warning") == ["problem", "warning"]
    assert for_which("frozen,leaf-unreached") == ["warning", "note"]
    assert for_which("problem", "[frozen]") == ["problem", "note"]
    assert for_which("never") == for_which() == []


def test_a_code_that_is_none_is_said_with_what_was_meant():
    with pytest.raises(UsageError, match="--ignore: there is no diagnosis 'frozn'") as raised:
        checked_codes(["leaf-unreached, frozn"], "--ignore")
    assert raised.value.hint == "did you mean frozen or left-frozen?"
    with pytest.raises(UsageError, match="'problems' is no severity and no diagnosis") as raised:
        checked_grounds(["problems"], "--fail-on")
    assert "problem" in raised.value.hint


def test_answers_of_one_line_to_change_are_one():
    answers = [answer(cause=5), answer("frozen", cause=7), answer("leaf-unreached", cause=5), answer("leaf-unreached")]
    found = [[one.code for one in alike] for alike in answers_by_cause(answers)]
    assert found == [["grad-none-unreached", "leaf-unreached"], ["frozen"], ["leaf-unreached"]]

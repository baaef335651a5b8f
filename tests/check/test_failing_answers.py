"""``check --fail-on``: a target fails for what ``run`` would answer; every format says so, and obeys none of it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from gradscope.analysis.check_results import CheckReport, FailingAnswer, TargetCheck
from gradscope.analysis.selection.answer_selection import AnswerSelection
from gradscope.analysis.selection.baseline import Baseline
from gradscope.cli.app import run_command_line
from gradscope.experiments.check.checking import check_programs
from gradscope.report.formats import format_named
from gradscope.targets.resolve import resolve
from tests.report.test_console import HOSTILE

LOST = """\
import torch

w = torch.ones(2, requires_grad=True)
scale = torch.ones(2, requires_grad=True)
hidden = (w * 2).detach()  # expect: not hidden.requires_grad
(hidden * scale).sum().backward()
print(w.grad)
"""
PROBLEM = frozenset(["problem"])


@pytest.mark.parametrize("fork", [None, False])
def test_a_target_fails_for_an_answer_unless_that_is_held_back(tmp_path: Path, fork: bool | None):
    for name, text in {"lost": LOST, "meant": LOST.replace("  # expect:", "  # gradscope: ignore  # expect:")}.items():
        (tmp_path / f"{name}.py").write_text(text)
    programs = [resolve(str(tmp_path / f"{name}.py")) for name in ("lost", "meant")]
    selection = AnswerSelection(baseline=Baseline(tmp_path / "known.json", {}))
    lost, meant = check_programs(programs, fail_on=PROBLEM, selection=selection, fork=fork).targets
    assert [(answer.code, answer.line, lost.passed) for answer in lost.answers] == [("grad-none-unreached", 5, False)]
    assert (meant.answers, meant.passed) == ((), True)


def test_without_the_option_nothing_is_analysed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lost.py").write_text(LOST)
    assert run_command_line(["check", "lost.py"], ()) == 0
    assert run_command_line(["check", "lost.py", "--fail-on", "problem"], ()) == 1
    assert "1 expectation held, 1 answer to fail for" in capsys.readouterr().out
    assert run_command_line(["check", "lost.py", "--fail-on", "problem", "--select", "frozen"], ()) == 0


@pytest.mark.parametrize("format", ["table", "json", "junit", "github", "concise", "sarif"])
def test_every_format_says_for_which_answer(format: str):
    answer = FailingAnswer("frozen", "note", f"is frozen: {HOSTILE}", "net.py", 7)
    report = CheckReport((TargetCheck("train.py", "train.py", (), answers=(answer,)),))
    text = format_named(format, "check").writer("check")(report)
    assert not set(text) & set("\x1b\x07\r\x9b\u202e\u2066")
    if format == "table":
        assert "  net.py:7  note [frozen]\n    is frozen:" in text and "1 answer to fail for" in text
    elif format == "json":
        document = json.loads(text)
        assert (document["outcome"], document["summary"]["answers"]) == ("failed", 1)
        assert document["targets"][0]["answers"][0]["line"] == 7
    elif format == "junit":
        suite = ElementTree.fromstring(text.partition("\n")[2])[0]
        assert (suite.get("tests"), suite.get("failures"), suite[1].get("file")) == ("2", "1", "net.py")
    elif format == "sarif":
        (run,) = json.loads(text)["runs"]
        (result,) = run["results"]
        place = result["locations"][0]["physicalLocation"]
        assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("net.py", 7)
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "frozen"
    elif format == "concise":
        assert text.startswith("net.py:7:1: frozen is frozen: ") and text.count("\n") == 1
    else:
        assert text.startswith("::error file=net.py,line=7,title=gradscope%3A frozen::is frozen: ")

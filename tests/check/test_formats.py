"""The results of a check as a screen and as data; what comes from a program is shown and never obeyed."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from jsonschema import Draft202012Validator

from gradscope.analysis.check_results import CheckReport, Expectation, Failure, Part, TargetCheck, expectation_from
from gradscope.report.check.check_schema import check_schema
from gradscope.report.formats import format_named
from tests.report.test_answer_formats import valid_sarif


def write(report: CheckReport, format: str) -> str:
    text: str = format_named(format, "check").writer("check")(report)
    return text


HELD = Expectation("a == 1", 3, 1, 0)
FALSE = Expectation(
    "b.requires_grad and f(b) < 2",
    5,
    1,
    1,
    Failure(1, "", (Part("b.requires_grad", "False"), Part("b", "tensor([1., 2.])"))),
)
LOOPED = Expectation("x / n", 7, 4, 2, Failure(2, "ZeroDivisionError: division by zero", (Part("n", "0"),)))
NEVER = Expectation("c == 1", 9, 0, 0)
AT_END = Expectation("d", 0, 1, 1, Failure(1, "", (Part("d", "0"),)))
GOOD = TargetCheck("good.py", "good.py", (HELD, HELD), output="hello\n")
BAD = TargetCheck("bad.py", "bad.py", (HELD, FALSE, LOOPED, NEVER, AT_END), output="hello\n")
BROKEN = TargetCheck(
    "broken.py", "broken.py", (HELD, NEVER, AT_END), "ValueError: no", 8, "Traceback …\nValueError: no\n", "one\ntwo\n"
)
REPORT = CheckReport((GOOD, BAD, BROKEN), 1.25)

SCREEN = """\
ok     good.py  2 expectations held
FAILED bad.py  4 of 5 expectations failed or never ran

  bad.py:5  does not hold
    b.requires_grad and f(b) < 2
      b.requires_grad  False
      b                tensor([1., 2.])

  bad.py:7  raises ZeroDivisionError: division by zero (evaluation 2 of 4; 2 failed)
    x / n
      n  0

  bad.py:9  never ran
    c == 1

  bad.py, -e  does not hold
    d
      d  0

FAILED broken.py  the program failed: ValueError: no (line 8)

  broken.py, -e  does not hold
    d
      d  0

    1 expectation never ran: line 9
    | one
    | two
3 targets: 4 expectations held, 4 failed, 2 never ran, 1 program failed (1.2 s)
"""


def test_screen() -> None:
    assert write(REPORT, "table") == SCREEN


def test_json_says_everything() -> None:
    document = json.loads(write(REPORT, "json"))
    assert {key: document[key] for key in ("format", "version", "outcome")} == {
        "format": "gradscope-check",
        "version": 1,
        "outcome": "failed",
    }
    assert document["summary"] == {
        "targets": 3,
        "targets_failed": 2,
        "expectations": 10,
        "held": 4,
        "failed": 4,
        "never_ran": 2,
        "answers": 0,
        "seconds": 1.25,
    }
    looped = document["targets"][1]["expectations"][2]
    assert looped.pop("verdict") == "raises"
    assert expectation_from(looped) == LOOPED
    assert json.loads(write(CheckReport((GOOD,)), "json"))["outcome"] == "passed"


def test_junit() -> None:
    root = ElementTree.fromstring(write(REPORT, "junit"))
    good, bad, broken = root
    assert [suite.attrib["failures"] for suite in root] == ["0", "4", "2"]
    assert [suite.attrib["errors"] for suite in root] == ["0", "0", "1"]
    assert all(int(suite.attrib["tests"]) == len(suite.findall("testcase")) for suite in root)
    assert good.findtext("system-out") == "hello\n"
    case = bad.findall("testcase")[2]
    assert case.attrib == {
        "classname": "bad.py",
        "name": "line 5: b.requires_grad and f(b) < 2",
        "file": "bad.py",
        "line": "5",
    }
    failure = case.find("failure")
    assert failure is not None and failure.attrib == {"message": "does not hold"}
    assert failure.text == f"{FALSE.expression}\n  b.requires_grad = False\n  b = tensor([1., 2.])"
    assert broken.findall("testcase")[0].find("error") is not None


def test_sarif() -> None:
    run = valid_sarif(write(REPORT, "sarif"))
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    found = [(result["ruleId"], result["locations"][0]["physicalLocation"]) for result in run["results"]]
    assert [rules[result["ruleIndex"]] for result in run["results"]] == [rule for rule, _ in found]
    lines = [
        (rule, place["artifactLocation"]["uri"], place.get("region", {}).get("startLine")) for rule, place in found
    ]
    assert lines == [
        *(("expectation", "bad.py", line) for line in (5, 7, 9, None)),
        ("program-failed", "broken.py", 8),
        *(("expectation", "broken.py", line) for line in (9, None)),
    ]


def test_github() -> None:
    lines = write(REPORT, "github").splitlines()
    assert lines[0] == (
        "::error file=bad.py,line=5,title=bad.py%3A5%3A expectation::does not hold%0A"
        "b.requires_grad and f(b) < 2%0A  b.requires_grad = False%0A  b = tensor([1., 2.])"
    )
    assert lines[3].startswith("::error file=bad.py,title=bad.py%2C -e%3A expectation::")
    assert lines[4] == "::error file=broken.py,line=8,title=broken.py failed::ValueError: no"
    assert len([line for line in lines if line.startswith("::error ")]) == 7
    assert lines[-1] == SCREEN.splitlines()[-1]


HOSTILE = "\x1b[31m[bold]100%\r\n::error::x</failure>\x00\u202e\ufffe\uffff\ud800"


@pytest.mark.parametrize("format", ["table", "json", "junit", "github", "concise", "sarif"])
def test_hostile_text_is_shown_and_not_obeyed(format: str) -> None:
    item = replace(FALSE, expression=HOSTILE, first_failure=Failure(1, HOSTILE, (Part(HOSTILE, HOSTILE),)))
    target = TargetCheck(HOSTILE, HOSTILE, (item,), HOSTILE, 1, HOSTILE, HOSTILE)
    text = write(CheckReport((target,)), format)
    assert not set(text) & set("\x1b\r\x00\u202e\ufffe\uffff\ud800")
    assert "[bold]100%" in text
    if format == "github":
        assert [line.partition(" ")[0] for line in text.splitlines()[:-1]] == ["::error", "::error"]
    elif format == "junit":
        ElementTree.fromstring(text)


def test_only_the_end_of_a_failed_programs_output_is_shown() -> None:
    long = replace(BROKEN, output="".join(f"line {number}\n" for number in range(100)))
    text = write(CheckReport((long,)), "table")
    assert "| … 80 lines before (--printed shows all)\n    | line 80\n" in text
    assert "| line 79\n" not in text


def test_json_is_as_its_schema_says() -> None:
    validator = Draft202012Validator(check_schema())
    document = json.loads(write(REPORT, "json"))
    validator.validate(document)
    assert not validator.is_valid(document | {"outcome": "so so"})
    del document["targets"][1]["expectations"][1]["verdict"]
    assert not validator.is_valid(document)

"""What ``gradscope check`` found, as data: JSON, JUnit XML, and annotations for GitHub's workflows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from xml.etree import ElementTree

from gradscope.analysis.check_results import CheckReport, Expectation, TargetCheck
from gradscope.report.check.check_screen import render_check
from gradscope.report.check.check_words import place, sentence, summary
from gradscope.report.github_commands import annotation
from gradscope.report.screen.plain_text import plain_text
from gradscope.report.screen.text import safe

FORMAT, VERSION = "gradscope-check", 1
"""Of the JSON. 1: the first; keys are only ever added."""

COUNTED: dict[str, Callable[[CheckReport], int]] = {
    "targets": lambda report: len(report.targets),
    "targets_failed": lambda report: sum(not target.passed for target in report.targets),
    "expectations": lambda report: sum(len(target.expectations) for target in report.targets),
    "held": lambda report: report.count("holds"),
    "failed": lambda report: report.count("fails", "raises"),
    "never_ran": lambda report: report.count("never ran"),
    "answers": lambda report: sum(len(target.answers) for target in report.targets),
}
"""What the summary counts."""


def as_json(report: CheckReport) -> str:
    """Everything, times in seconds."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "outcome": _outcome(report.passed),
        "targets": [_target(target) for target in report.targets],
        "summary": {name: count(report) for name, count in COUNTED.items()} | {"seconds": report.seconds},
    }
    return json.dumps(document, indent=2) + "\n"


def _outcome(passed: bool) -> str:
    return "passed" if passed else "failed"


def _target(target: TargetCheck) -> dict[str, object]:
    expectations = [{"verdict": item.verdict} | asdict(item) for item in target.expectations]
    return {"outcome": _outcome(target.passed)} | asdict(target) | {"expectations": expectations}


def as_junit(report: CheckReport) -> str:
    """A test suite a target, a test case an expectation, and one for the program's own end."""
    root = ElementTree.Element("testsuites", name="gradscope check", time=f"{report.seconds:.3f}")
    for target in report.targets:
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=safe(target.target),
            tests=str(len(target.expectations) + len(target.answers) + 1),
            failures=str(len(target.failed) + len(target.answers)),
            errors=str(int(bool(target.failure))),
        )
        _case(suite, target, "the program runs to its end", target.failure_line)
        if target.failure:
            _child(suite[-1], "error", target.failure, target.traceback or target.output)
        for item in target.expectations:
            _case(suite, target, f"{f'line {item.line}' if item.line else '-e'}: {item.expression}", item.line)
            if item.verdict != "holds":
                _child(suite[-1], "failure", sentence(item), _values(item))
        for answer in target.answers:
            _case(suite, target, f"line {answer.line}: {answer.code}", answer.line, answer.file)
            _child(suite[-1], "failure", f"{answer.severity}: {answer.code}", answer.text)
        if target.output:
            ElementTree.SubElement(suite, "system-out").text = _xml_text(target.output)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, target: TargetCheck, name: str, line: int, file: str = "") -> None:
    attributes = {"classname": target.target, "name": name, "file": file or target.file.partition("::")[0]}
    if line:
        attributes["line"] = str(line)
    ElementTree.SubElement(suite, "testcase", {key: safe(value) for key, value in attributes.items()})


def _child(case: ElementTree.Element, tag: str, message: str, text: str) -> None:
    ElementTree.SubElement(case, tag, message=safe(message)).text = _xml_text(text)


def _xml_text(text: str) -> str:
    """Text without the characters that XML cannot hold."""
    return "\n".join(safe(line) for line in text.split("\n"))


def _values(item: Expectation) -> str:
    parts = item.first_failure.parts if item.first_failure is not None else ()
    return "\n".join([item.expression, *(f"  {part.expression} = {part.value}" for part in parts)])


def as_github(report: CheckReport) -> str:
    """A workflow command for each failure, which GitHub shows beside the line; and the summary."""
    lines = []
    for target in report.targets:
        file = target.file.partition("::")[0]
        if target.failure:
            title = f"{target.file} failed"
            lines.append(annotation("error", title, target.failure, file=file, line=target.failure_line))
        for item in target.failed:
            message = f"{sentence(item)}\n{_values(item)}"
            title = f"{place(target, item)}: expectation"
            lines.append(annotation("error", title, message, file=file, line=item.line))
        for answer in target.answers:
            title = f"gradscope: {answer.code}"
            lines.append(annotation("error", title, answer.text, file=answer.file, line=answer.line))
    return "\n".join([*lines, summary(report)]) + "\n"


def as_concise(report: CheckReport) -> str:
    """A line a failure, ``file:line:col: code sentence``; an expectation has no code."""
    found = []
    for target in report.targets:
        file = target.file.partition("::")[0]
        if target.failure:
            found.append((file, target.failure_line, f"failed {target.failure}"))
        found += [(file, item.line, f"expectation {sentence(item)}: {item.expression}") for item in target.failed]
        found += [(answer.file, answer.line, f"{answer.code} {answer.text}") for answer in target.answers]
    return "".join(
        safe(f"{file}:{line}:1: " if line else f"{file}: ") + safe(" ".join(text.split())) + "\n"
        for file, line, text in found
    )


def as_text(report: CheckReport) -> str:
    """The screen without colour."""
    return plain_text(render_check, report)

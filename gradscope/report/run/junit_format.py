"""JUnit XML: the answers as test cases, for CI that shows such reports; problems and warnings are failures."""

from __future__ import annotations

import os
from typing import TextIO
from xml.etree import ElementTree

from gradscope.analysis.report_model import Answer, Report
from gradscope.report.run.run_result import RunResult
from gradscope.report.screen.text import safe


def write(result: RunResult, stream: TextIO) -> None:
    """Write one test suite: a case for the program's own end, and one an answer."""
    report = result.report
    failed = sum(answer.severity != "note" for answer in report.answers)
    counts = {
        "tests": str(1 + len(report.answers)),
        "failures": str(failed),
        "errors": str(int(_ended_badly(report))),
        "time": f"{report.run.duration_ns / 1e9:.3f}",
    }
    root = ElementTree.Element("testsuites", {"name": "gradscope run", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": safe(report.run.target), **counts})
    _add_end(suite, report)
    for answer in report.answers:
        _add_answer(suite, report, answer)
    ElementTree.indent(root)
    stream.write(ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n")


def _ended_badly(report: Report) -> bool:
    return report.run.outcome != "ok" and bool(report.run.exit_code or report.run.error_type)


def _add_end(suite: ElementTree.Element, report: Report) -> None:
    run = report.run
    place = run.error_place
    case = _case(suite, report, "the program runs to its end", *((place.file, place.line) if place else ("", 0)))
    if _ended_badly(report):
        said = f"{run.error_type}: {run.error_message}" if run.error_type else f"exit status {run.exit_code}"
        ElementTree.SubElement(case, "error", message=safe(" ".join(said.split())))


def _add_answer(suite: ElementTree.Element, report: Report, answer: Answer) -> None:
    """At the line to change."""
    where = answer.causes[0] if answer.causes else answer.place
    file, line = (where.file, where.line) if where is not None else ("", 0)
    case = _case(suite, report, f"line {line}: {answer.code}" if line else answer.code, file, line)
    text = "\n".join(map(safe, answer.text.split("\n")))
    if answer.severity == "note":
        ElementTree.SubElement(case, "system-out").text = text
        return
    message = f"{answer.severity}: {answer.code}"
    ElementTree.SubElement(case, "failure", message=message, type=answer.severity).text = text


def _case(suite: ElementTree.Element, report: Report, name: str, file: str, line: int) -> ElementTree.Element:
    attributes = {"classname": safe(report.run.target), "name": name}
    if line:
        attributes |= {"file": safe(os.path.normpath(file)), "line": f"{line:d}"}
    return ElementTree.SubElement(suite, "testcase", attributes)

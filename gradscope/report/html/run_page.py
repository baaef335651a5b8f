"""The page of a run: answers, source with what the tensors were, memory, graphs, shared memory, gradients."""

from __future__ import annotations

from io import StringIO
from typing import Any, TextIO

from gradscope.analysis.diagnoses.catalogue import every_diagnosis
from gradscope.analysis.diagnoses.diagnosis import Diagnosis
from gradscope.analysis.facts.graphs.whole_graphs import WholeGraphs
from gradscope.analysis.facts.memory.memory_timeline import memory_timeline
from gradscope.analysis.facts.memory_use import MemoryUse
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Answer, Cause, Place, Report
from gradscope.analysis.view import RunView
from gradscope.recording import Recording
from gradscope.report.html.graph_data import graph_data
from gradscope.report.html.memory_drawing import areas, bar, timeline_data
from gradscope.report.html.page import render
from gradscope.report.html.source_view import anchor, shown_files, source_views
from gradscope.report.run.run_result import RunResult
from gradscope.report.run.summary import graph_title, outcome, totals
from gradscope.report.screen.text import UNICODE


def write(result: RunResult, stream: TextIO) -> None:
    """Write the page."""
    report, recording = result.report, result.recording
    index = Index(recording)
    timeline = memory_timeline(index, MemoryUse(index))
    files = shown_files(recording, report)
    graphs = graph_data(WholeGraphs(index).describe()) if report.graphs else []
    stream.write(
        render(
            "run.html.j2",
            title=f"gradscope {report.run.target or report.run.kind}",
            report=report,
            outcome=outcome(report),
            is_well=report.run.outcome == "ok" and not report.run.error_message,
            answers=[_answer(answer, files) for answer in report.answers],
            codes=_codes(report),
            files=source_views(recording, report, result.view.memory),
            timeline=timeline,
            areas=areas(timeline),
            timeline_data=timeline_data(timeline),
            graphs=list(zip(map(graph_title, report.graphs), report.graphs, graphs, strict=True)),
            graph_data=graphs,
            bar=bar,
            link=lambda place: anchor(files, place.file, place.line) if place is not None else "",
            totals=[line.plain for line in totals(report, UNICODE)],
        )
    )


def page_of(recording: Recording) -> str:
    """The page of a recording."""
    stream = StringIO()
    write(RunResult(recording, RunView()), stream)
    return stream.getvalue()


def _answer(answer: Answer, files: list[str]) -> dict[str, Any]:
    """An answer with the lines to which it leads, each once."""
    places: list[Cause | Place] = [*answer.causes]
    if answer.place is not None:
        places.append(answer.place)
    first: dict[tuple[str, int], Cause | Place] = {}
    for place in places:
        if place.line:
            first.setdefault((place.file, place.line), place)
    return {
        "told": answer,
        "places": [(place, anchor(files, file, line)) for (file, line), place in first.items()],
    }


def _codes(report: Report) -> list[tuple[Diagnosis, list[tuple[str, str]]]]:
    """What the codes of the answers mean, each once."""
    wanted = {answer.code for answer in report.answers}
    return [(known, _paragraphs(known)) for known in every_diagnosis() if known.code in wanted]


def _paragraphs(known: Diagnosis) -> list[tuple[str, str]]:
    titles = ("What was seen", "Why torch behaves so", "How to mend it")
    return [(title, " ".join(text.split())) for title, text in zip(titles, known.explanation, strict=True)]

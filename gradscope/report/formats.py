"""The formats of all results: by name, by the suffix of a file, and by what is written in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gradscope.errors import UsageError

RECORDING_SUFFIX = ".gradscope"

ResultKind = Literal["run", "compare", "check", "ranks", "why", "whatif", "fix"]
"""The command whose result is written; ``report`` writes that of a run, or of several ranks of one."""

_RUN = "gradscope.report.run"
_COMPARE = "gradscope.report.compare.compare_formats"
_CHECK = "gradscope.report.check.check_formats"
_RANKS = "gradscope.report.ranks.ranks_formats"
_WHY = "gradscope.report.why.why_formats"
_WHATIF = "gradscope.report.whatif.whatif_formats"
_FIX = "gradscope.report.fix.fix_formats"


class Format(NamedTuple):
    """A format of one or more results; what writes it is imported when it is used."""

    name: str
    suffixes: tuple[str, ...]
    """The first is the usual one; a format without any is printed only."""
    writers: Mapping[ResultKind, str]
    """``module:function``. Of a run: writes a :class:`RunResult` to a stream, which it neither opens nor closes. Of the
    others: gives the text of a :class:`Comparison`, a :class:`CheckReport`, :class:`MergedRanks`, a
    :class:`WhyAnswer`, a :class:`WhatIf` or a :class:`FixReport`."""
    is_picture: bool = False
    """Of a comparison: it shows the screen, and also takes the number of columns (None: as many as usual)."""
    called: str = ""
    """What people know it by, where the suffix does not say it."""

    def writer(self, result: ResultKind) -> Callable[..., Any]:
        """What writes a result in this format; it computes nothing."""
        module, _, function = self.writers[result].partition(":")
        found: Callable[..., Any] = getattr(import_module(module), function)
        return found


FORMATS: tuple[Format, ...] = (
    Format(
        "table",
        (".txt",),
        {
            "run": f"{_RUN}.table_format:write",
            "compare": f"{_COMPARE}:as_text",
            "check": f"{_CHECK}:as_text",
            "ranks": f"{_RANKS}:as_text",
            "why": f"{_WHY}:as_text",
            "whatif": f"{_WHATIF}:as_text",
            "fix": f"{_FIX}:as_text",
        },
        is_picture=True,
    ),
    Format(
        "json",
        (".json",),
        {
            "run": f"{_RUN}.json_format:write",
            "compare": f"{_COMPARE}:as_json",
            "check": f"{_CHECK}:as_json",
            "ranks": f"{_RANKS}:as_json",
            "why": f"{_WHY}:as_json",
            "whatif": f"{_WHATIF}:as_json",
            "fix": f"{_FIX}:as_json",
        },
    ),
    Format(
        "jsonl",
        (".jsonl", ".ndjson"),
        {"run": f"{_RUN}.jsonl_format:write", "compare": f"{_COMPARE}:as_jsonl"},
    ),
    Format("csv", (".csv",), {"run": f"{_RUN}.csv_format:write", "compare": f"{_COMPARE}:as_csv"}),
    Format(
        "markdown",
        (".md", ".markdown"),
        {
            "run": f"{_RUN}.markdown_format:write",
            "compare": f"{_COMPARE}:as_markdown",
            "whatif": f"{_WHATIF}:as_markdown",
        },
    ),
    Format("svg", (".svg",), {"run": f"{_RUN}.svg_format:write", "compare": f"{_COMPARE}:as_svg"}, is_picture=True),
    Format(
        "html",
        (".html", ".htm"),
        {"run": "gradscope.report.html.run_page:write", "compare": "gradscope.report.html.compare_page:as_html"},
    ),
    Format("diff", (".diff", ".patch"), {"fix": f"{_FIX}:as_diff"}),
    Format("junit", (".xml",), {"run": f"{_RUN}.junit_format:write", "check": f"{_CHECK}:as_junit"}, called="JUnit"),
    Format("github", (), {"run": f"{_RUN}.github_format:write", "check": f"{_CHECK}:as_github"}),
    Format("concise", (), {"run": f"{_RUN}.concise_format:write", "check": f"{_CHECK}:as_concise"}),
    Format("dot", (".dot", ".gv"), {"run": f"{_RUN}.dot_format:write"}),
    Format("mermaid", (".mmd",), {"run": f"{_RUN}.mermaid_format:write"}),
    Format("trace", (".trace",), {"run": f"{_RUN}.trace_format:write"}),
    Format(
        "sarif",
        (".sarif",),
        {"run": f"{_RUN}.sarif_format:write", "check": "gradscope.report.check.check_sarif:as_sarif"},
    ),
)


def formats_of(result: ResultKind) -> list[Format]:
    """The formats that a result can be written in."""
    return [known for known in FORMATS if result in known.writers]


def format_named(name: str, result: ResultKind) -> Format:
    """The format of a name.

    Raises:
        UsageError: There is none.
    """
    formats = formats_of(result)
    for known in formats:
        if known.name == name:
            return known
    raise UsageError(f"there is no format {name!r}", f"formats: {', '.join(known.name for known in formats)}")


def format_of_file(path: Path, result: ResultKind) -> Format | None:
    """The format that the suffix of a file stands for; None: the file is to be a recording.

    Raises:
        UsageError: It stands for none.
    """
    suffix = path.suffix.lower()
    if suffix in _recording(result):
        return None
    for known in formats_of(result):
        if suffix in known.suffixes:
            return known
    suffixes = [*_recording(result), *(one for known in formats_of(result) for one in known.suffixes)]
    raise UsageError(f"cannot tell a format from {path}", f"name a file that ends in one of {' '.join(suffixes)}")


def suffixes_in_help(result: ResultKind) -> str:
    """The usual suffix of each format, data first: ``.json .csv .txt``."""
    formats = [known for known in formats_of(result) if known.suffixes]
    formats.sort(key=lambda known: known.name == "table")
    shown = [f"{known.suffixes[0]} ({known.called})" if known.called else known.suffixes[0] for known in formats]
    return " ".join([*_recording(result), *shown])


def _recording(result: ResultKind) -> list[str]:
    """Only of a run there is a recording to keep."""
    return [RECORDING_SUFFIX] if result == "run" else []

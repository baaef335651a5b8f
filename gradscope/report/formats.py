"""The formats of a run: by name, and by the suffix of a file."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol, TextIO, cast

from gradscope.errors import UsageError
from gradscope.report.run.run_result import RunResult

RECORDING_SUFFIX = ".gradscope"


class Writer(Protocol):
    """Writes one run; computes nothing. Every module of a format has one by the name of ``write``."""

    def __call__(self, result: RunResult, stream: TextIO) -> None:
        """Write to a stream, which it neither opens nor closes."""


class Format(NamedTuple):
    """A format; its module is imported when it is used."""

    name: str
    suffixes: tuple[str, ...]
    module: str

    def write(self, result: RunResult, stream: TextIO) -> None:
        """Write a run to a stream, which stays open.

        Args:
            result: The run.
            stream: Where to. A stream to a file should be UTF-8 and translate no newlines.
        """
        cast("Writer", import_module(self.module).write)(result, stream)


FORMATS: tuple[Format, ...] = (
    Format("table", (".txt",), "gradscope.report.run.table_format"),
    Format("json", (".json",), "gradscope.report.run.json_format"),
    Format("jsonl", (".jsonl", ".ndjson"), "gradscope.report.run.jsonl_format"),
    Format("csv", (".csv",), "gradscope.report.run.csv_format"),
    Format("markdown", (".md", ".markdown"), "gradscope.report.run.markdown_format"),
    Format("svg", (".svg",), "gradscope.report.run.svg_format"),
)


def format_named(name: str) -> Format:
    """The format of a name.

    Raises:
        UsageError: There is none.
    """
    for known in FORMATS:
        if known.name == name:
            return known
    raise UsageError(f"there is no format {name!r}", f"formats: {', '.join(known.name for known in FORMATS)}")


def format_of_file(path: Path) -> Format:
    """The format that a file's suffix tells.

    Raises:
        UsageError: It tells none.
    """
    for known in FORMATS:
        if path.suffix.lower() in known.suffixes:
            return known
    suffixes = " ".join([RECORDING_SUFFIX, *(suffix for known in FORMATS for suffix in known.suffixes)])
    raise UsageError(f"the suffix of {path} tells no format", f"use one of these suffixes: {suffixes}")

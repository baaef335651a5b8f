"""Findings that a project knows and has accepted: a file of them, each by a place that survives edits above it.

A place is the file, the function and the text of the line that is to be changed; no line's number. As many findings are
accepted as the file counts at a place.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from gradscope.analysis.report_model import Answer
from gradscope.errors import UsageError

_FORMAT = "gradscope-baseline"

_VERSION = 1
"""Raised with every change that an older reader would misread; the log:

1. The first.
"""


class KnownFinding(NamedTuple):
    """What findings have in common that are one to a baseline."""

    code: str
    file: str
    """Relative to the baseline's folder, with ``/`` between its parts."""
    function: str
    source: str
    """Text of the line to change (or, where none is known, of the line that the finding is placed at)."""


class Baseline:
    """A file of accepted findings.

    Args:
        path: The file.
        accepted: How many findings of a kind are accepted.
    """

    def __init__(self, path: Path, accepted: Mapping[KnownFinding, int]) -> None:
        self.path = path.absolute()
        self.accepted = Counter(accepted)
        self._cwd = Path.cwd()  # a program may leave the folder before this is used

    def finding(self, answer: Answer) -> KnownFinding:
        """An answer as the file would have it."""
        where = answer.causes[0] if answer.causes else answer.place
        if where is None:
            return KnownFinding(answer.code, "", "", "")
        return KnownFinding(answer.code, self._name(where.file), where.function, " ".join(where.source.split()))

    def new_among(self, answers: Iterable[Answer]) -> list[bool]:
        """For each answer whether it is not accepted."""
        left = self.accepted.copy()
        new = []
        for answer in answers:
            finding = self.finding(answer)
            new.append(left[finding] <= 0)
            left[finding] -= 1
        return new

    def with_findings_of(self, other: Baseline) -> Baseline:
        """This file with the findings of another as well: those of files are there relative to its own folder."""
        moved = {known._replace(file=self._name(other.located(known.file))): n for known, n in other.accepted.items()}
        return Baseline(self.path, self.accepted | Counter(moved))

    def located(self, file: str) -> str:
        """Where a file is that this baseline names."""
        return file if file.startswith("<") else os.path.normpath(self.path.parent / file)

    def with_all(self, answers: Iterable[Answer]) -> Baseline:
        """The same file with these answers accepted as well."""
        found = Counter(map(self.finding, answers))
        return Baseline(self.path, self.accepted | found)

    def as_text(self) -> str:
        """What is in the file: JSON, a finding a line."""
        rows = [json.dumps(finding._asdict() | {"count": self.accepted[finding]}) for finding in sorted(self.accepted)]
        listed = ",\n  ".join(rows)
        body = f"[\n  {listed}\n ]" if rows else "[]"
        return f'{{\n "format": "{_FORMAT}",\n "version": {_VERSION},\n "findings": {body}\n}}\n'

    def _name(self, file: str) -> str:
        if file.startswith("<"):
            return file
        path = os.path.normpath(self._cwd / file)
        with suppress(ValueError):  # another drive
            path = os.path.relpath(path, self.path.parent)
        return Path(path).as_posix()


def read_baseline(path: Path) -> Baseline:
    """The accepted findings of a file.

    Raises:
        UsageError: There is no such file, or it holds something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"there is no baseline {path}", f"write one with --write-baseline {path}") from error
    except OSError as error:
        raise UsageError(f"cannot read the baseline {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no baseline: {error}", f"write one with --write-baseline {path}") from error
    try:
        return Baseline(path, _accepted(document))
    except (LookupError, TypeError, ValueError) as error:
        hint = f"write it anew with --write-baseline {path}"
        raise UsageError(f"{path} is no baseline that this gradscope can read", hint) from error


def _accepted(document: Any) -> dict[KnownFinding, int]:
    if document["format"] != _FORMAT or document["version"] != _VERSION:
        raise ValueError("another format")
    accepted: Counter[KnownFinding] = Counter()
    for row in document["findings"]:
        finding = KnownFinding(*(row[name] for name in KnownFinding._fields))
        if not all(isinstance(part, str) for part in finding) or not isinstance(row["count"], int):
            raise TypeError("a part of another type")
        accepted[finding] += row["count"]
    return accepted

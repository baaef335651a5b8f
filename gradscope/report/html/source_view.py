"""The source of a run as a page shows it: each line with its marks, and what the tensors were after it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from gradscope.analysis.report_model import Answer, LineRow, Report, RowKind
from gradscope.recording import Recording
from gradscope.report.run.line_cells import FACTS, Cells
from gradscope.report.screen.text import UNICODE

CONTEXT = 3
"""Lines without anything to say that are shown around those with."""

_MARKS: dict[RowKind, tuple[str, str]] = {
    "error": ("raised", "bad"),
    "cut": ("cut", "cut"),
    "backward": ("backward", "pass"),
    "step": ("step", "pass"),
    "mode": ("mode", "mode"),
    "read": (".grad", "quiet"),
    "export": ("export", "quiet"),
    "changed": ("changed", "write"),
}
"""What is written beside a line, and which look it has."""
_SEVERITIES = {"problem": "bad", "warning": "warn", "note": "quiet"}


class Piece(NamedTuple):
    """Source of one look."""

    look: str
    text: str


class Mark(NamedTuple):
    """A word beside a line."""

    word: str
    look: str


class ShownState(NamedTuple):
    """A tensor after a line."""

    cells: tuple[str, ...]
    """One for each of the line's titles."""
    tracked: bool


class SourceLine(NamedTuple):
    """A line of a file."""

    number: int
    pieces: tuple[Piece, ...]
    marks: tuple[Mark, ...]
    executions: int
    """How often it ran; 0 where no call was seen."""
    titles: tuple[str, ...]
    """What is known of its tensors."""
    states: tuple[ShownState, ...]
    key: str
    """The anchor of the line."""


class Stretch(NamedTuple):
    """Lines that follow each other."""

    is_quiet: bool
    """Nothing was seen on any of them: they are shown where somebody asks."""
    lines: tuple[SourceLine, ...]


class SourceView(NamedTuple):
    """A file."""

    name: str
    stretches: tuple[Stretch, ...]


_TITLES = (*(column.title for column in FACTS), "what happened")


def anchor(files: Sequence[str], file: str, line: int) -> str:
    """The anchor of a line of a file; empty for a file that is not shown."""
    return f"f{files.index(file)}-{line:d}" if line and file in files else ""


def shown_files(recording: Recording, report: Report) -> list[str]:
    """Names of the files that a page shows: the user's own, and others to which an answer leads."""
    mentioned = {row.file for row in report.lines} | {
        place.file for answer in report.answers for place in (*answer.causes, answer.place) if place is not None
    }
    return list(dict.fromkeys(file.name for file in recording.files if file.text and file.name in mentioned))


def source_views(recording: Recording, report: Report, memory: bool | None) -> list[SourceView]:
    """Every file that is shown."""
    files = shown_files(recording, report)
    kinds = Counter((row.dtype, row.device) for row in report.lines if row.dtype)
    cells = Cells(UNICODE, kinds.most_common(1)[0][0] if kinds else ("", ""), memory)
    texts = {file.name: file.text for file in reversed(recording.files)}
    return [_view(name, texts[name], report, cells, files) for name in files]


def _view(name: str, text: str, report: Report, cells: Cells, files: Sequence[str]) -> SourceView:
    rows: dict[int, list[LineRow]] = defaultdict(list)
    for row in report.lines:
        if row.file == name:
            rows[row.line].append(row)
    told: dict[int, list[Answer]] = defaultdict(list)
    for answer in report.answers:
        for line in {place.line for place in (*answer.causes[:1], answer.place) if place and place.file == name}:
            told[line].append(answer)
    lines = [
        _line(number, pieces, rows.get(number, ()), told.get(number, ()), cells, anchor(files, name, number))
        for number, pieces in enumerate(highlighted(text), 1)
    ]
    return SourceView(name, tuple(_stretches(lines)))


def _line(
    number: int,
    pieces: tuple[Piece, ...],
    rows: Sequence[LineRow],
    answers: Iterable[Answer],
    cells: Cells,
    key: str,
) -> SourceLine:
    marks = [Mark(answer.severity, _SEVERITIES[answer.severity]) for answer in answers]
    marks += [Mark(*_MARKS[row.kind]) for row in rows if row.kind in _MARKS]
    facts = [(*(cell.plain for cell in cells.facts(row)), cells.note(row).plain) for row in rows]
    used = [at for at in range(len(_TITLES)) if any(row[at] for row in facts)]
    titles = tuple(_TITLES[at] for at in used)
    states = tuple(
        ShownState(tuple(told[at] for at in used), bool(row.requires_grad))
        for row, told in zip(rows, facts, strict=True)
    )
    runs = max((row.executions for row in rows), default=0)
    return SourceLine(number, pieces, tuple(dict.fromkeys(marks)), runs, titles, states if used else (), key)


def _stretches(lines: Sequence[SourceLine]) -> Iterable[Stretch]:
    """Lines with something to say and those around them, and the quiet ones between."""
    telling = [line.number for line in lines if line.states or line.marks]
    near = {number for told in telling for number in range(told - CONTEXT, told + CONTEXT + 1)}
    for is_near, stretch in groupby(lines, key=lambda line: line.number in near):
        found = tuple(stretch)
        yield Stretch(not is_near and len(found) > CONTEXT, found)


def highlighted(text: str) -> list[tuple[Piece, ...]]:
    """The lines of a source in pieces, each of one look; together they are the text to the letter."""
    from pygments.lexers.python import PythonLexer
    from pygments.token import Comment, Keyword, Name, Number, String, Token

    looks = ((Comment, "c"), (Keyword, "k"), (String, "s"), (Number, "n"), (Name.Builtin, "b"), (Name.Decorator, "b"))
    lines: list[list[Piece]] = [[]]
    for token, value in PythonLexer(stripnl=False, ensurenl=False).get_tokens(text):
        look = next((look for kind, look in looks if token in kind), "") if token is not Token.Text else ""
        first, *others = value.split("\n")
        if first:
            lines[-1].append(Piece(look, first))
        lines += [[Piece(look, other)] if other else [] for other in others]
    plain = text.split("\n")
    if ["".join(piece.text for piece in line) for line in lines] != plain:
        lines = [[Piece("", line)] if line else [] for line in plain]
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    return [tuple(line) for line in lines]

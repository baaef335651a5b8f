"""Recordings side by side: which facts differ between variants, in groups of rows."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from gradscope.analysis.comparison.aligned_lines import aligned_lines
from gradscope.analysis.comparison.comparison_model import (
    SUMMARY,
    Cell,
    CellKind,
    Comparison,
    Group,
    Row,
    Unit,
    Value,
    Variant,
)
from gradscope.analysis.comparison.facts_by_name import NO_GRADIENT, OF_NAMES, OF_RUNS, RECEIVED, Facts, is_local
from gradscope.analysis.comparison.joined_rows import Placed, together
from gradscope.analysis.comparison.parting import find_parting
from gradscope.analysis.comparison.shown_lines import shown_lines
from gradscope.errors import UsageError
from gradscope.recording import Recording

MISSING = Cell(None, "missing", False)

_ORDER = (SUMMARY, "autograd", "storage", "memory", "form", "run", "lines")
"""Groups in the order in which they are shown; those that a program's own watches name come after the first four."""

_WATCHES = "watched"


_TIMED = ("forward", "backward")

Times = tuple[tuple[str, int, int], ...]
"""What was timed (one of ``_TIMED``), the median and the spread (between the quartiles), in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One variant: its recording, and how it ended where that is more than the recording knows."""

    variant: Variant
    recording: Recording
    complete: bool = True
    """Whether the recording is of the whole run: of one that was cut short nothing is known at its end."""
    times: Times = ()
    """Measured in runs without the recorder."""


def compare_recordings(
    runs: Sequence[Labelled],
    *,
    target: str,
    title: str = "",
    baseline: str | None = None,
    all_rows: bool = False,
    groups: Collection[str] = (),
    lines: bool = False,
    repeat: int = 0,
    tolerance: float = 0.0,
) -> Comparison:
    """Compare variants.

    Args:
        runs: The variants, in the order of the columns.
        target: What the user named.
        title: The title of the file that the variants are cells of.
        baseline: Name of a variant; cells that differ from its cell are marked.
        all_rows: Keep rows whose cells agree; a summary, whose facts are among the rest, is left out.
        groups: Titles of the groups to keep; empty: all.
        lines: Compare line by line as well, aligned by content: for variants that are files of their own.
        repeat: How often each was timed; 0: not at all.
        tolerance: Of two runs with fingerprints: how far norms may be apart that count as equal.

    Raises:
        UsageError: No variant is called ``baseline``, or there is no such group.
    """
    position = _position(runs, baseline)
    facts = [Facts(run.recording) if run.complete else None for run in runs]
    rows = _name_rows(facts, all_rows) + _watch_rows(runs) + _run_rows(facts, runs)
    if lines:
        rows += [("lines", row) for row in aligned_lines([run.recording for run in runs])]
    rows += _time_rows(runs) if repeat else []
    measured = [(group, _marked(row, position)) for group, row in rows]
    always = {"watch", "time"} | ({"outcome"} if any(run.variant.outcome != "ok" for run in runs) else set())
    kept = [(group, row) for group, row in measured if all_rows or row.differs or row.fact in always]
    left_out = len(measured) - len(kept)
    if not all_rows:
        kept = together(kept)
    kept = _chosen(kept, groups, all_rows)
    parting = find_parting(runs[0].recording, runs[1].recording, tolerance) if len(runs) == 2 else None
    infos = [run.recording.info for run in runs]
    return Comparison(
        target=target,
        title=title,
        variants=tuple(run.variant for run in runs),
        baseline=position,
        groups=_grouped(kept),
        rows_measured=len(measured),
        rows_left_out=left_out,
        differs=any(row.differs for _, row in measured) or (parting is not None and parting.first is not None),
        parting=parting,
        torch=next((info.torch for info in infos if info.torch), ""),
        python=next((info.python for info in infos if info.python), ""),
        repeat=repeat,
        code=shown_lines(runs[0].recording) if runs else (),
    )


def _chosen(rows: list[Placed], groups: Collection[str], all_rows: bool) -> list[Placed]:
    if not groups:
        return [placed for placed in rows if not (all_rows and placed[0] == SUMMARY)]
    titles = [group.title for group in _grouped(rows)]
    for group in groups:
        if group not in titles:
            raise UsageError(f"no group of facts is called {group!r}", "the groups: " + ", ".join(titles))
    return [placed for placed in rows if placed[0] in groups]


def _position(runs: Sequence[Labelled], baseline: str | None) -> int | None:
    if baseline is None:
        return None
    names = [run.variant.name for run in runs]
    if baseline not in names:
        raise UsageError(f"no variant is called {baseline!r}", "the variants: " + ", ".join(names))
    return names.index(baseline)


def row_of(fact: str, name: str, label: str, cells: Sequence[Cell], unit: Unit = "", measured: bool = False) -> Row:
    """A row; it differs where two of its cells do.

    Args:
        measured: A cell is missing only where it could not be had: it says nothing, so it does not differ.
    """
    told = {_key(cell): cell for cell in cells if not (measured and cell.kind == "missing")}
    differs = any(_unlike(fact, one, other) for one, other in combinations(told.values(), 2))
    return Row(fact, name, (), label, unit, tuple(cells), differs)


def _key(cell: Cell) -> tuple[CellKind, str, Value]:
    return cell.kind, type(cell.value).__name__, cell.value


def _unlike(fact: str, one: Cell, other: Cell) -> bool:
    if fact == "grad" and RECEIVED in (one.value, other.value):
        return NO_GRADIENT in (one.value, other.value)  # of two gradients, the value of one was not recorded
    return _key(one) != _key(other)


def _marked(row: Row, baseline: int | None) -> Row:
    if baseline is None or row.fact == "time":
        return row
    than = row.cells[baseline]
    return replace(row, cells=tuple(replace(cell, differs=_unlike(row.fact, cell, than)) for cell in row.cells))


def _cell(value: Value, kind: CellKind = "value") -> Cell:
    return Cell(value, kind, False)


def _cell_or_missing(value: Value) -> Cell:
    return MISSING if value is None else _cell(value)


def _name_rows(facts: Sequence[Facts | None], local: bool) -> list[Placed]:
    """Every fact of every name that two variants or more have, and which have it."""
    order: dict[str, int] = {}
    known = {at: one for at, one in enumerate(facts) if one is not None}
    for one in known.values():
        for name in one.tensor_of:
            order.setdefault(name, len(order))
    for one in known.values():
        one.name_as(order)
    names = [name for name in order if local or not is_local(name)]
    shared = [name for name in names if sum(name in one.tensor_of for one in known.values()) > 1]
    places = {name: order[name] for name in shared}
    values = {
        (at, name): one.of_name(name, places) for at, one in known.items() for name in shared if name in one.tensor_of
    }
    rows = []
    for fact in OF_NAMES:
        for name in shared:
            cells = [_cell_or_missing(values.get((at, name), {}).get(fact.code)) for at in range(len(facts))]
            rows.append((fact.group, row_of(fact.code, name, f"{name} {fact.label}", cells, fact.unit, measured=True)))
    for name in names:
        cells = [MISSING if one is None else _cell(name in one.tensor_of) for one in facts]
        rows.append(("run", row_of("present", name, f"{name} is a tensor", cells, measured=True)))
    return rows


def _watch_rows(runs: Sequence[Labelled]) -> list[Placed]:
    """The last value of each watched expression."""
    values: dict[str, dict[int, Cell]] = {}
    for at, run in enumerate(runs):
        recording = run.recording
        for watch in recording.watches:
            text = recording.text(watch.text)
            unknown = watch.failed and run.variant.outcome != "ok" and text.startswith("NameError")
            cell = MISSING if unknown else _cell(text if watch.failed else _plain(text), _kind(watch.failed))
            values.setdefault(recording.text(watch.expression), {})[at] = cell
    rows = []
    for expression, cells in values.items():
        group, label = label_of(expression)
        row = row_of("watch", expression, label, [cells.get(at, MISSING) for at in range(len(runs))])
        rows.append((group, row))
    return rows


def _kind(failed: int) -> CellKind:
    return "error" if failed else "value"


def _plain(text: str) -> Value:
    """A watched value from its ``repr``: text, booleans and numbers as what they are; one that was cut as it is."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text[1:] if text[:1] in ("'", '"') else text
    return value if isinstance(value, (str, bool, int, float)) else text


def label_of(expression: str) -> tuple[str, str]:
    """The group and the label of a watched expression.

    A comment behind the expression is its label, and what stands in it before a colon is the group:
    ``# watch: version(b)  # storage: version of b``.
    """
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(expression).readline))
    except (tokenize.TokenError, SyntaxError):
        tokens = []
    comment = next((token.string for token in tokens if token.type == tokenize.COMMENT), "").lstrip("# ").strip()
    if not comment:
        return _WATCHES, expression.strip()
    group, colon, label = comment.partition(":")
    return (group.strip(), label.strip()) if colon and label.strip() else (_WATCHES, comment)


def _run_rows(facts: Sequence[Facts | None], runs: Sequence[Labelled]) -> list[Placed]:
    values = [{} if one is None else one.of_run() for one in facts]
    rows = []
    for fact in OF_RUNS:
        cells = [_cell_or_missing(value.get(fact.code)) for value in values]
        rows.append((fact.group, row_of(fact.code, "", fact.label, cells, fact.unit, measured=True)))
    endings = [
        _cell(run.variant.message or "ok", "error" if run.variant.outcome not in ("ok", "exit") else "value")
        for run in runs
    ]
    return [*rows, ("run", row_of("outcome", "", "ended", endings))]


def _time_rows(runs: Sequence[Labelled]) -> list[Placed]:
    rows = []
    for what in _TIMED:
        for name, at in ((what, 1), (f"{what}_spread", 2)):
            found = [next((time[at] for time in run.times if time[0] == what), None) for run in runs]
            cells = [
                _cell(_why_not_timed(run.variant), "error") if value is None else _cell(value)
                for value, run in zip(found, runs, strict=True)
            ]
            row = row_of("time", name, name.replace("_", " "), cells, "ns")
            rows.append(("time", replace(row, differs=False)))
    return rows


def _why_not_timed(variant: Variant) -> str:
    return f"not timed: {variant.outcome if variant.outcome != 'ok' else 'the timed runs failed'}"


def _grouped(rows: Sequence[Placed]) -> tuple[Group, ...]:
    groups: dict[str, list[Row]] = {}
    for title, row in rows:
        groups.setdefault(title, []).append(row)
    own = [title for title in groups if title not in (*_ORDER, "time")]
    titles = [*_ORDER[:4], *own, *_ORDER[4:], "time"]
    return tuple(Group(title, tuple(groups[title])) for title in titles if title in groups)

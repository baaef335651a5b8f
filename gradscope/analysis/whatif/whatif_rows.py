"""The table of ``whatif``: variants and facts, as ``compare`` has them, so that what shows the one shows the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gradscope.analysis.comparison.comparison_model import Cell, Comparison, Group, Row, Unit, Variant
from gradscope.analysis.comparison.side_by_side import MISSING, row_of
from gradscope.analysis.whatif.effects import ended_well, percent
from gradscope.analysis.whatif.whatif_builder import AS_IT_IS
from gradscope.analysis.whatif.whatif_model import Likeness, Trial, WhatIf


def comparison_of(whatif: WhatIf) -> Comparison:
    """The trials side by side; cells that differ from the unchanged program's are marked, where that says something."""
    trials, uncertain = whatif.trials, whatif.uncertain
    groups = [Group("autograd", _autograd(trials, uncertain)), Group("memory", _memory(trials, uncertain))]
    if whatif.repeat:
        groups.append(Group("time", _times(trials)))
    rows = [row for group in groups for row in group.rows]
    return Comparison(
        target=whatif.target,
        title="",
        variants=tuple(_variant(trial, whatif.target) for trial in trials),
        baseline=0,
        groups=tuple(groups),
        rows_measured=len(rows),
        rows_left_out=0,
        differs=any(row.differs for row in rows if row.fact != "time"),
        torch=whatif.torch,
        python=whatif.python,
        repeat=whatif.repeat,
    )


def _variant(trial: Trial, target: str) -> Variant:
    return Variant(trial.name, target, trial.outcome, trial.exit_code, trial.message, trial.line, "")


def _autograd(trials: tuple[Trial, ...], uncertain: tuple[str, ...]) -> tuple[Row, ...]:
    return (
        _row("outcome", "ends", trials, _ending, uncertain),
        _row("with_gradient", "with a gradient", trials, _with_gradient, uncertain),
        _row("losses", "losses", trials, lambda trial: _likeness(trial, trial.losses), uncertain),
        _row("gradients", "gradients", trials, lambda trial: _likeness(trial, trial.gradients), uncertain),
    )


def _memory(trials: tuple[Trial, ...], uncertain: tuple[str, ...]) -> tuple[Row, ...]:
    return (
        _row(
            "saved_bytes",
            "saved for backward",
            trials,
            lambda trial: _whole(trial, trial.saved_bytes),
            uncertain,
            "bytes",
        ),
        _row("peak_bytes", "live peak", trials, _peak, uncertain, "bytes"),
    )


def _times(trials: tuple[Trial, ...]) -> tuple[Row, ...]:
    rows = (
        _row("time", "time", trials, lambda trial: _number(trial.wall_ns), (), "ns"),
        _row("time", "spread", trials, lambda trial: _number(trial.wall_spread_ns), (), "ns"),
        _row("time", "backward", trials, lambda trial: _number(trial.backward_ns), (), "ns"),
    )
    return tuple(replace(row, differs=False) for row in rows)


def _row(
    fact: str,
    label: str,
    trials: tuple[Trial, ...],
    cell: Callable[[Trial], Cell],
    uncertain: tuple[str, ...],
    unit: Unit = "",
) -> Row:
    is_uncertain = fact in uncertain
    row = row_of(fact, "", f"{label} (uncertain)" if is_uncertain else label, [cell(trial) for trial in trials], unit)
    if is_uncertain or fact == "time":
        return row
    base = row.cells[0]
    cells = (replace(one, differs=one.kind != "missing" and _is_other(one, base)) for one in row.cells)
    return replace(row, cells=tuple(cells))


def _is_other(cell: Cell, base: Cell) -> bool:
    return cell.value not in (base.value, "same")


def _ending(trial: Trial) -> Cell:
    if ended_well(trial):
        return Cell("well", "value", False)
    words = {"exception": "raises", "timeout": "takes too long", "exit": "exits", "crash": "crashes"}
    return Cell(words.get(trial.outcome, trial.outcome), "error", False)


def _with_gradient(trial: Trial) -> Cell:
    return Cell(f"{trial.with_gradient} of {trial.parameters}", "value", False) if trial.passes else MISSING


def _likeness(trial: Trial, likeness: Likeness) -> Cell:
    if trial.name == AS_IT_IS and likeness.same is None:
        return Cell("same", "value", False) if trial.passes else MISSING
    if likeness.same is None:
        return MISSING
    if likeness.same:
        return Cell("same", "value", False)
    far = percent(likeness.relative) if likeness.relative is not None else _largest(likeness)
    return Cell(f"off {far}{_from(likeness)}", "value", False)


def _largest(likeness: Likeness) -> str:
    return "?" if likeness.largest is None else f"by {likeness.largest:.1e}"


def _from(likeness: Likeness) -> str:
    return f", pass {likeness.first_pass}" if likeness.first_pass > 1 else ""


def _whole(trial: Trial, value: int | None) -> Cell:
    """A number of a whole run: what one had come to that ended early is no more than a part of it."""
    return _number(value) if ended_well(trial) else MISSING


def _peak(trial: Trial) -> Cell:
    return MISSING if trial.recomputes else _whole(trial, trial.peak_bytes)


def _number(value: int | None) -> Cell:
    return MISSING if value is None else Cell(value, "value", False)

"""``--gradients``: how large each leaf's gradients were, of the passes that were looked at."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import GradientNorms
from gradscope.analysis.view import RunView
from gradscope.report.run.gradient_rows import gradient_rows, looked_at
from gradscope.report.screen.text import ASCII, UNICODE, Symbols
from tests.analysis.building import recorded

SOURCE = """
import torch
first, second = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
for size in range(12):
    first.grad = second.grad = None
    weight = float("nan") if size == 9 else 10.0 ** -size
    (first * torch.tensor([3.0, 4.0]) * weight + second * 0).sum().backward()
"""


def rows_of(source: str = SOURCE) -> tuple[GradientNorms, ...]:
    return build(recorded(source), RunView(gradients=True)).gradient_norms


def row(*sizes: float, **fields: object) -> GradientNorms:
    passes = tuple(range(1, len(sizes) + 1))
    finite = [size for size in sizes if math.isfinite(size)]
    known = GradientNorms("w", "(2,)", True, "norm", passes, sizes, min(finite), max(finite), sizes.count(0.0), 0)
    return known._replace(**fields)  # type: ignore[arg-type]


def shown(rows: tuple[GradientNorms, ...], marks: Symbols = UNICODE, limit: int = 9, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for part in gradient_rows(rows, width, marks, limit):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_each_leaf_has_the_norms_of_the_passes_that_were_looked_at() -> None:
    first, second = rows_of()
    assert (first.name, second.name) == ("first", "second")
    assert first.passes == second.passes == (1, 2, 3, 4, 9, 10)
    assert first.sizes[:5] == pytest.approx((5.0, 0.5, 0.05, 0.005, 5e-8), rel=1e-3)
    assert (first.least, first.most) == pytest.approx((5e-8, 5.0), rel=1e-3)
    assert (first.zero, first.not_finite, first.measure) == (0, 1, "norm")
    assert (second.sizes, second.zero) == ((0.0,) * 6, 6)


def test_they_are_in_a_report_only_where_they_were_asked_for() -> None:
    assert build(recorded(SOURCE)).gradient_norms == ()


def test_a_recording_without_norms_tells_the_largest_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradscope.recorder.state.value_ranges.Norms.read", lambda _: [])
    first, _ = rows_of()
    assert first.measure == "largest"
    assert first.sizes[:2] == pytest.approx((4.0, 0.4))
    assert "largest elements" in shown((first,))


def test_the_plot_has_one_scale_for_all_rows() -> None:
    text = shown((row(1.0, 1e-4), row(1e-8, 0.0), row(1.0, math.nan, not_finite=1)))
    assert "█▅" in text and "▁0" in text and "█!" in text
    assert "zero in 1 of 2" in text and "not finite in 1 of 2" in text
    assert "from 1e-08 to 1" in text
    assert "@+" in shown((row(1.0, 1e-4), row(1e-8, 1.0)), ASCII)


def test_sizes_that_are_alike_look_alike() -> None:
    assert "██" in shown((row(1.0, 0.99), row(1.01, 1.0)))
    assert "▁" not in shown((row(1.0, 0.99), row(1.01, 1.0)))


def test_what_was_looked_at_and_left_out_is_said() -> None:
    rows = (row(1.0, 2.0), row(3.0, 4.0), row(5.0))
    assert looked_at(rows, 1234) == "2 of 1,234 backward passes looked at"
    assert "2 more leaves (--all)" in shown(rows, limit=1)
    assert all(len(line) <= 80 for line in shown(rows, width=80).splitlines())

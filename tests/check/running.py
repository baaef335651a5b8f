"""Programs written for one test, and what came of their expectations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent

from gradscope.analysis.check_results import Expectation, TargetCheck
from gradscope.experiments.check.checking import check_programs
from gradscope.targets.resolve import resolve


def check(
    source: str, folder: Path, at_end: Sequence[str] = (), *, timeout: float | None = None, fork: bool | None = None
) -> TargetCheck:
    """Run a program and evaluate its expectations."""
    path = folder / "program.py"
    path.write_text(dedent(source).lstrip("\n"))
    return check_programs([resolve(str(path))], at_end, timeout=timeout, fork=fork).targets[0]


def verdicts(result: TargetCheck) -> list[str]:
    """Of each expectation, in order."""
    return [item.verdict for item in result.expectations]


def parts(item: Expectation) -> dict[str, str]:
    """The values that a failure shows."""
    assert item.first_failure is not None
    return {part.expression: part.value for part in item.first_failure.parts}

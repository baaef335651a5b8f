"""Every built-in scenario: true by its own expectations, plain Python, and the same under plain Python."""

from __future__ import annotations

import ast

import pytest

from gradscope.analysis.check_results import TargetCheck
from gradscope.experiments.check.checking import check_programs
from gradscope.recorder.torch_internals.capabilities import saved_tensors_tell_hooks
from gradscope.targets.expecting import has_expectations
from gradscope.targets.resolve import resolve
from gradscope.targets.scenarios import all_scenarios, scenario_folder, scenario_names
from tests.plain_python import Plain, run_plain

NAMES = scenario_names()
COMPARISONS = {
    "stop_gradient": 9,
    "freeze_encoder": 5,
    "inplace_write": 6,
}
"""Cells of the comparisons."""
LONGEST = 60
"""Lines of a scenario that is one lesson."""


@pytest.fixture(scope="module")
def checked() -> dict[str, TargetCheck]:
    report = check_programs([resolve(name) for name in NAMES])
    return dict(zip(NAMES, report.targets, strict=True))


@pytest.fixture(scope="module")
def plain() -> dict[str, Plain]:
    return dict(zip(NAMES, run_plain([scenario_folder() / f"{name}.py" for name in NAMES]), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_scenario_expects_holds(name: str, checked: dict[str, TargetCheck]) -> None:
    result = checked[name]
    assert not result.failure, result.traceback
    failed = [(item.line, item.expression, item.verdict) for item in result.failed]
    if not saved_tensors_tell_hooks and name == "checkpointing":
        assert all("saved_bytes" in expression for _, expression, _ in failed)
    else:
        assert failed == []
    assert len(result.expectations) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_prints_the_same_under_plain_python(
    name: str, plain: dict[str, Plain], checked: dict[str, TargetCheck]
) -> None:
    assert plain[name] == Plain(0, checked[name].output)


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_is_plain_python_with_a_title_and_tags(name: str) -> None:
    source = (scenario_folder() / f"{name}.py").read_text()
    imported = {
        alias.name.partition(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in ([ast.alias(node.module or "")] if isinstance(node, ast.ImportFrom) else node.names)
    }
    assert "torch" in imported
    assert "gradscope" not in imported
    program = resolve(name)
    assert program.title and program.tags
    assert has_expectations(program)
    if name not in COMPARISONS:
        assert source.count("\n") <= LONGEST


@pytest.mark.parametrize("name", COMPARISONS)
def test_each_cell_of_a_comparison_can_be_checked_alone(name: str) -> None:
    program = resolve(name)
    assert len(program.cells) == COMPARISONS[name]
    for cell in program.cells:
        assert has_expectations(resolve(f"{name}::{cell.name}"))


def test_titles_tell_the_scenarios_apart() -> None:
    titles = [scenario.title for scenario in all_scenarios()]
    assert len(set(titles)) == len(titles) >= 19

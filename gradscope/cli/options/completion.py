"""Completion in the shell."""

from __future__ import annotations


def complete_target(incomplete: str) -> list[tuple[str, str]]:
    """Names of built-in scenarios with their titles; files are completed by the shell itself where none fits."""
    from gradscope.targets.scenarios import all_scenarios

    return [(item.name, item.title) for item in all_scenarios() if item.name.startswith(incomplete)]


def complete_code(incomplete: str) -> list[tuple[str, str]]:
    """Codes of diagnoses with their titles."""
    from gradscope.analysis.diagnoses.catalogue import every_diagnosis

    return [(known.code, known.title) for known in every_diagnosis() if known.code.startswith(incomplete)]

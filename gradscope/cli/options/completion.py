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


def complete_codes(incomplete: str) -> list[tuple[str, str]]:
    """The last code of several with commas between."""
    before, comma, last = incomplete.rpartition(",")
    return [(before + comma + code, title) for code, title in complete_code(last)]


def complete_grounds(incomplete: str) -> list[tuple[str, str]]:
    """Severities, and codes like :func:`complete_codes`."""
    known = {"problem": "something failed or is wrong", "warning": "that, or it may not be what was meant"}
    return [item for item in known.items() if item[0].startswith(incomplete)] + complete_codes(incomplete)


def complete_topic(incomplete: str) -> list[tuple[str, str]]:
    """Pages of ``gradscope help`` with their headings."""
    from gradscope.cli.options.help_pages import pages_by_topic, title_of

    return [(topic, title_of(page)) for topic, page in pages_by_topic().items() if topic.startswith(incomplete)]

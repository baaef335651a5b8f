"""Completion in the shell. Nothing that is offered is run, and no torch is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Offered = list[tuple[str, str]]
"""What may be written, and what it is; the last is empty where a name says it."""

_PROGRAMS = (".py", ".ipynb", ".md")
_RECORDINGS = (".gradscope",)
_GROUPS = ("autograd", "storage", "memory", "scope", "errors", "run")
"""Groups of facts that each comparison may have; a file's own are known when it has been run."""
_LARGEST = 1 << 20
"""Bytes of a file whose cells are looked for."""


def complete_target(incomplete: str) -> Offered:
    """Built-in scenarios with their titles, programs of this folder, and the cells of a file behind ``file.py::``.

    In other folders the shell itself completes files, since nothing is offered.
    """
    file, separator, part = incomplete.partition("::")
    if separator:
        return _known((f"{file}::{name}", "") for name in _cells(file) if name.startswith(part))
    return _scenarios(incomplete) + _files(incomplete, _PROGRAMS)


def complete_compared(incomplete: str) -> Offered:
    """What can be compared: targets, and recordings of this folder."""
    return complete_target(incomplete) + _files(incomplete, _RECORDINGS)


def complete_recording(incomplete: str) -> Offered:
    """Recordings of the folder that was named."""
    return _files(incomplete, _RECORDINGS, anywhere=True)


def complete_cell(ctx: Any, incomplete: str) -> Offered:
    """Cells of the file that stands before the option; without one, the variants of ``gradscope compare`` alone.

    Args:
        ctx: Typer's, which knows the arguments so far.
        incomplete: Several with commas between, of which the last is completed.
    """
    return _last_of_several(incomplete, (name for target in _targets_so_far(ctx) for name in _cells(target)))


def complete_variant(ctx: Any, incomplete: str) -> Offered:
    """One of the variants: a cell, or one of several targets by its name."""
    targets = _targets_so_far(ctx)
    names = targets if len(targets) > 1 else _cells(targets[0])
    return _known((name, "") for name in names if name.startswith(incomplete))


def complete_groups(incomplete: str) -> Offered:
    """Groups of facts, with commas between."""
    return _last_of_several(incomplete, _GROUPS)


def complete_tag(incomplete: str) -> Offered:
    """Tags of built-in scenarios."""
    from gradscope.targets.scenarios import all_scenarios

    tags = {tag for scenario in all_scenarios() for tag in scenario.tags}
    return _known((tag, "") for tag in sorted(tags) if tag.startswith(incomplete))


def complete_code(incomplete: str) -> Offered:
    """Codes of diagnoses with their titles, and what else is explained."""
    from gradscope.analysis.comparison.rank_cause_kinds import KINDS

    others = [("torch-versions", "what changed"), ("ranks", "what several processes show")]
    of_ranks = [(known.kind, known.title) for known in KINDS]
    return [item for item in [*complete_diagnosis(""), *of_ranks, *others] if item[0].startswith(incomplete)]


def complete_diagnosis(incomplete: str) -> Offered:
    """Codes of diagnoses with their titles."""
    from gradscope.analysis.diagnoses.catalogue import every_diagnosis

    return [(known.code, known.title) for known in every_diagnosis() if known.code.startswith(incomplete)]


def complete_codes(incomplete: str) -> Offered:
    """The last code of several with commas between."""
    before, comma, last = incomplete.rpartition(",")
    return [(before + comma + code, title) for code, title in complete_diagnosis(last)]


def complete_grounds(incomplete: str) -> Offered:
    """Severities, and codes like :func:`complete_codes`."""
    known = {"problem": "something failed or is wrong", "warning": "that, or it may not be what was meant"}
    return [item for item in known.items() if item[0].startswith(incomplete)] + complete_codes(incomplete)


def complete_topic(incomplete: str) -> Offered:
    """Pages of ``gradscope help`` with their headings."""
    from gradscope.cli.options.help_pages import pages_by_topic, title_of

    return [(topic, title_of(page)) for topic, page in pages_by_topic().items() if topic.startswith(incomplete)]


def _targets_so_far(ctx: Any) -> list[str]:
    """Where an option's value is what is completed, nothing before it has become a parameter yet."""
    return [str(target) for target in ctx.params.get("targets") or ctx.args or ("stop_gradient",)]


def _scenarios(incomplete: str) -> Offered:
    from gradscope.targets.scenarios import all_scenarios

    return [(item.name, item.title) for item in all_scenarios() if item.name.startswith(incomplete)]


def _files(incomplete: str, suffixes: tuple[str, ...], *, anywhere: bool = False) -> Offered:
    folder, _, start = incomplete.rpartition("/")
    if folder and not anywhere:
        return []
    before = incomplete[: len(incomplete) - len(start)]
    try:
        names = sorted(os.listdir(before or "."))  # noqa: PTH208 - a Path would change how the folder was written
    except OSError:
        return []
    fitting = (name for name in names if name.startswith(start) and name.endswith(suffixes))
    return _known((before + name, "") for name in fitting if start or not name.startswith("."))


def _cells(target: str) -> list[str]:
    """The cells of a file or a scenario, in order; none where it cannot be read."""
    from gradscope.targets.cells import find_cells
    from gradscope.targets.comments import find_comments
    from gradscope.targets.scenarios import find_scenario

    path = Path(target) if Path(target).is_file() else find_scenario(target)
    try:
        if path is None or path.suffix != ".py" or path.stat().st_size > _LARGEST:
            return []
        source = path.read_text(encoding="utf-8")
        return [cell.name for cell in find_cells(find_comments(source), source)]
    except (OSError, ValueError, SyntaxError):
        return []


def _last_of_several(incomplete: str, names: Iterable[str]) -> Offered:
    before, comma, last = incomplete.rpartition(",")
    return _known((before + comma + name, "") for name in names if name.startswith(last))


def _known(found: Iterable[tuple[str, str]]) -> Offered:
    """What was found; for bash, which puts it into the command line as it is, as one word of it."""
    is_bash = os.environ.get("_GRADSCOPE_COMPLETE", "").endswith("bash")
    return [(_as_word(text) if is_bash else text, title) for text, title in found]


def _as_word(text: str) -> str:
    return re.sub(r"([^\w@%+=:,./~-])", r"\\\1", text)

"""What ``whatif`` measured as JSON, Markdown and text."""

from __future__ import annotations

from gradscope.analysis.whatif.whatif_model import WhatIf
from gradscope.analysis.whatif.whatif_rows import comparison_of
from gradscope.report.compare.compare_formats import escaped, markdown_groups
from gradscope.report.json_document import JsonDocument
from gradscope.report.screen.plain_text import plain_text
from gradscope.report.whatif.whatif_screen import render_whatif

DOCUMENT = JsonDocument("gradscope-whatif", 1, WhatIf, ("breaks", "holds"), "Whether a variant breaks something.")
"""1: the first."""


def as_json(whatif: WhatIf) -> str:
    """Everything as one object: sizes in bytes, times in nanoseconds."""
    return DOCUMENT.text(whatif, "breaks" if any(trial.breaks for trial in whatif.trials) else "holds")


def as_text(whatif: WhatIf, width: int | None = None) -> str:
    """The screen without colour."""
    return plain_text(render_whatif, whatif, width)


def as_markdown(whatif: WhatIf) -> str:
    """The tables, and what each variant would change."""
    lines = [f"# {escaped(whatif.target)}, line {whatif.line}", "", f"`{whatif.source.split(chr(10))[0]}`", ""]
    lines += markdown_groups(comparison_of(whatif))
    for trial in whatif.trials[1:]:
        lines.append(f"- **{escaped(trial.name)}**: {escaped(trial.code)}")
        lines += [f"  - mends: {escaped(one)}" for one in trial.mends]
        lines += [f"  - breaks: {escaped(one)}" for one in trial.breaks]
        lines += [f"  - saves {escaped(one)}" for one in trial.saves]
        lines += [f"  - takes {escaped(one)}" for one in trial.costs]
    lines += ["", *(escaped(one) for one in (*whatif.noise, *whatif.remarks)), "", escaped(whatif.summary), ""]
    return "\n".join(lines)

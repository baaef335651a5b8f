"""What ``whatif`` measured as JSON, Markdown and text; ``gradscope schema whatif`` prints the JSON Schema."""

from __future__ import annotations

from io import StringIO
from typing import Any

from gradscope.analysis.whatif.whatif_model import WhatIf
from gradscope.analysis.whatif.whatif_rows import comparison_of
from gradscope.report.compare.compare_formats import DOCUMENT_WIDTH, escaped, markdown_groups
from gradscope.report.json_values import write_object
from gradscope.report.screen.pipe import console_on
from gradscope.report.whatif.whatif_screen import render_whatif

FORMAT = "gradscope-whatif"

VERSION = 1
"""Raised with every change that could break a reader; keys are only ever added, which breaks none. The log:

1. The first.
"""


def head(whatif: WhatIf) -> dict[str, Any]:
    """What the result begins with: which format it is, and whether a variant breaks something."""
    is_broken = any(trial.breaks for trial in whatif.trials)
    return {"format": FORMAT, "version": VERSION, "outcome": "breaks" if is_broken else "holds"}


def as_json(whatif: WhatIf) -> str:
    """Everything as one object: sizes in bytes, times in nanoseconds."""
    stream = StringIO()
    write_object(head(whatif) | {name: getattr(whatif, name) for name in WhatIf._fields}, stream)
    return stream.getvalue()


def as_text(whatif: WhatIf, width: int | None = None) -> str:
    """The screen without colour."""
    stream = StringIO()
    render_whatif(whatif, console_on(stream, width or DOCUMENT_WIDTH, color=False))
    return stream.getvalue()


def as_markdown(whatif: WhatIf) -> str:
    """The tables, and what each variant would change."""
    lines = [f"# {escaped(whatif.target)}, line {whatif.line}", "", f"`{whatif.source.split(chr(10))[0]}`", ""]
    lines += markdown_groups(comparison_of(whatif))
    for trial in whatif.trials[1:]:
        lines.append(f"- **{escaped(trial.name)}**: {escaped(trial.code)}")
        lines += [f"  - mends: {escaped(one)}" for one in trial.mends]
        lines += [f"  - breaks: {escaped(one)}" for one in trial.breaks]
        lines += [f"  - saves {escaped(one)}" for one in trial.saves]
        lines += [f"  - takes {escaped(one)} more" for one in trial.costs]
    lines += ["", *(escaped(one) for one in (*whatif.noise, *whatif.remarks)), "", escaped(whatif.summary), ""]
    return "\n".join(lines)

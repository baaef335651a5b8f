"""Lines that a comparison shows above its table: those that end in the comment ``# shown`` or ``# shown: REMARK``."""

from __future__ import annotations

import re
import textwrap

from gradscope.recording import Recording

_SHOWN = re.compile(r"(?P<code>.*\S)\s*#\s*shown(:\s*(?P<remark>.*\S))?\s*")


def shown_lines(recording: Recording) -> tuple[str, ...]:
    """The marked lines that ran, in the order in which they first did; of the mark the remark stays."""
    marked = {
        (number, at): f"{found['code']}  # {found['remark']}" if found["remark"] else found["code"]
        for number, file in enumerate(recording.files)
        if file.is_user and "shown" in file.text
        for at, line in enumerate(file.text.split("\n"), 1)
        if (found := _SHOWN.fullmatch(line))
    }
    if not marked:
        return ()
    ran: dict[tuple[int, int], None] = {}
    for number in recording.ops.column("span"):
        if number >= 0:
            span = recording.spans[number]
            ran[span.file, span.line] = None
    return tuple(textwrap.dedent(marked[place]) for place in ran if place in marked)

"""Loops that an error, or whatever else ended the program, left before their end."""

from __future__ import annotations

import re

from gradscope.analysis.index import Index
from gradscope.frames.statements import parse_source

_FRAME = re.compile(r'^  File "(.+)", line (\d+), in ', re.MULTILINE)


class LoopsCutShort:
    """The lines at which the program's frames stood when it ended, other than by itself."""

    def __init__(self, index: Index) -> None:
        self._index = index
        outcome = index.recording.info.outcome
        stood = {(outcome.file, outcome.line)}
        numbers = {file.path: number for number, file in enumerate(index.recording.files)}
        stood |= {(numbers.get(path, -1), int(line)) for path, line in _FRAME.findall(outcome.traceback)}
        self._stood = [] if outcome.kind == "ok" else [(file, line) for file, line in stood if file >= 0]

    def around(self, file: int, line: int) -> bool:
        """Whether a line of a file (by number) is in such a loop."""
        here = [stood for number, stood in self._stood if number == file]
        loops = parse_source(self._index.recording.files[file].text).loops if here else []
        return any(line in loop and any(stood in loop for stood in here) for loop in loops)

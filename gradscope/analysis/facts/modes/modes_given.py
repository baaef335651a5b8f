"""Dropouts and batch norms whose mode is an argument of the program's: no ``eval()`` changes what they do."""

from __future__ import annotations

from gradscope.analysis.index import Index
from gradscope.frames.calls.given_modes import mode_of_call, reads_modes


def is_mode_given(index: Index, op: int) -> bool:
    """Whether a dropout or a batch norm was called as a function, and no module's mode can have gone into that."""
    recording = index.recording
    span = recording.ops.column("span")[op]
    if span < 0 or recording.spans[span].file < 0:
        return False
    name = index.func(op).rpartition(".")[2]
    mode = mode_of_call(index.span_source(op, exact=True), name, recording.files[recording.spans[span].file].text)
    return mode == "fixed" or (
        mode == "given" and not any(file.is_user and reads_modes(file.text) for file in recording.files)
    )

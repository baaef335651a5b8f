"""Whether backward passes run where something else goes on: under ``no_grad`` they would fail."""

from __future__ import annotations

from gradscope.analysis.index import Index
from gradscope.frames.calls.reached_functions import reached_functions


def runs_passes(index: Index, file: int, line: int, meanwhile: range) -> bool:
    """Whether one ran meanwhile, or ran in a function that the one around a line may call.

    Args:
        index: The recording.
        file: The file of the line (index into files).
        line: A line in the function.
        meanwhile: Ops during which the function, or a part of it, was running.
    """
    if any(op in meanwhile for op in index.roots):
        return True
    reached = reached_functions(index.recording.files[file].text, line)
    return not reached.isdisjoint(index.op_place(op).function.rpartition(".")[2] for op in index.roots)

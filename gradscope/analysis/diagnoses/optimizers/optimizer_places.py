"""The line at which a program has an optimizer made: of a function that returns one, the line that calls it."""

from __future__ import annotations

import ast

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer
from gradscope.analysis.report_model import Cause
from gradscope.analysis.worded_lines import NamedLine
from gradscope.frames.syntax_trees import innermost, parsed


def line_of_making(sources: Sources, optimizer: Optimizer) -> NamedLine:
    """The line whose place decides when the optimizer is made, and for whom it is."""
    recording = sources.index.recording
    span = recording.spans[optimizer.made.span]
    tree = parsed(recording.files[span.file].text) if optimizer.called else None
    is_returned = tree is not None and innermost(tree, optimizer.line, ast.Return) is not None
    return sources.index.line(span.file, optimizer.called) if is_returned else optimizer.line


def cause_of_making(sources: Sources, optimizer: Optimizer) -> list[Cause]:
    """That line as a cause."""
    line = line_of_making(sources, optimizer)
    if line == optimizer.line:
        return sources.cause_of_event("made", optimizer.made)
    file = sources.index.recording.spans[optimizer.made.span].file
    return [sources.cause_of_line("made", file, int(line), int(line), "")]

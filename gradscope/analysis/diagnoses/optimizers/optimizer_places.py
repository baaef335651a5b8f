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
    is_returned = tree is not None and _is_returned(tree, optimizer.line)
    return sources.index.line(span.file, optimizer.called) if is_returned else optimizer.line


def _is_returned(tree: ast.Module, line: int) -> bool:
    """Whether a line returns what it makes, or gives it a name that the function around returns."""
    statement = innermost(tree, line, ast.Return, ast.Assign)
    if not isinstance(statement, ast.Assign):
        return statement is not None
    function = innermost(tree, line, ast.FunctionDef)
    names = {one.id for one in statement.targets if isinstance(one, ast.Name)}
    returned = (node.value for node in ast.walk(function or tree) if isinstance(node, ast.Return))
    return any(isinstance(value, ast.Name) and value.id in names for value in returned)


def cause_of_making(sources: Sources, optimizer: Optimizer) -> list[Cause]:
    """That line as a cause."""
    line = line_of_making(sources, optimizer)
    if line == optimizer.line:
        return sources.cause_of_event("made", optimizer.made)
    file = sources.index.recording.spans[optimizer.made.span].file
    return [sources.cause_of_line("made", file, int(line), int(line), "")]

"""The call that led to a cut inside a function which others call as well, and may mean the cut.

``pool.query(images)`` gives images without a graph: right for a discriminator's loss, wrong for the generator's. The
line to change is then the generator's call, not the one in ``query``.
"""

from __future__ import annotations

from gradscope.analysis.facts.derivatives.function_sources import Lines
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Step
from gradscope.analysis.index import Index
from gradscope.frames.calls.calls_of_functions import calls_of


def call_of_cut(index: Index, cuts: Cuts, way: list[Step]) -> Lines | None:
    """The one call, of several in the program, through which a way from a leaf to a root got its cut.

    It is the call in the function to which the values went on from the one that cut them. None where that one is called
    at one place only, or it is not known which call it was: the function of the next step has none, or several.
    """
    at = next((number for number, step in enumerate(way) if step.loses), -1)
    if at < 0:
        return None
    region = cuts.regions.describe(way[at].op)
    if region is not None and not region.is_written:
        return None  # (the call is what the sentence names)
    inside = index.statements[index.op_statement[cuts.line_to_change(way[at].op)]]
    text = index.recording.text
    name = text(inside.function).rpartition(".")[2]
    files = index.recording.files
    if inside.file < 0 or not name.isidentifier():
        return None
    calls = [(number, call) for number, file in enumerate(files) if file.is_user for call in calls_of(file.text, name)]
    if len({(number, call.line) for number, call in calls}) < 2:
        return None
    for step in way[at + 1 :]:
        where = index.statements[index.op_statement[step.op]] if step.op >= 0 else inside
        if (where.file, where.function) != (inside.file, inside.function):
            function = text(where.function)
            around = function.rpartition(".")[2].strip("<>")
            around = "" if around == "module" else around
            there = [call for number, call in calls if number == where.file and call.function == around]
            if len(there) != 1 or there[0].line > where.end_line:
                return None
            return Lines(where.file, index.line(where.file, there[0].line), there[0].end_line, function)
    return None

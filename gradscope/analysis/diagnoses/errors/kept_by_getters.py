"""Who kept the graph that a second pass leads into, where a function gave what its object had kept once more."""

from __future__ import annotations

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Cause
from gradscope.frames.names.handed_out_again import handed_out_again
from gradscope.frames.names.put_statements import last_part


def kept_by_getter(sources: Sources, tensor: int, node: int, between: tuple[int, int]) -> list[Cause]:
    """The lines by which the function that gave a tensor keeps it, and the condition under which it gives it again.

    The statement that calls it has run once more, as what uses the result has, outside any loop: it got what was kept,
    since nothing made the tensor anew. (A statement that returns an attribute is no op, under whose names it is seen.)

    Args:
        sources: The facts.
        tensor: The tensor.
        node: Its node.
        between: The pass that used its graph up, and the one that failed.
    """
    index, (used_up, op) = sources.index, between
    stored = sources.stored(tensor, used_up)
    made = index.recording.nodes.column("op")[node]
    if not stored or not 0 <= made < used_up or index.op_statement[made] < 0:
        return []
    before = {index.op_statement[one] for one in index.users.of(tensor) if made < one < used_up}
    again = [one for one in index.users.of(tensor) if used_up < one < op and index.op_statement[one] in before]
    for one in again:
        place, at = index.op_place(one), index.statements[index.op_statement[one]]
        if at.file < 0 or place.function != stored[-1].function or index.op_place(made).file != place.file:
            continue
        text, lines = index.recording.files[at.file].text, (int(stored[-1].line), at.line, int(index.op_line(made)))
        found = handed_out_again(text, *lines, last_part(index.op_place(made).function))
        if found is not None:
            kept = [sources.cause_of_line("saved", at.file, *where, found.function) for where in found.kept]
            return [*kept, sources.cause_of_line("used", at.file, *found.condition, found.function)]
    return []

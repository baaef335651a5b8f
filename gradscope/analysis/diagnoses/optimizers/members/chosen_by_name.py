"""Which condition on names kept a parameter out of its optimizer."""

from __future__ import annotations

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.names_in_modules import names_in_modules
from gradscope.analysis.facts.optimizers import Optimizer
from gradscope.analysis.report_model import Cause
from gradscope.analysis.wording import listed
from gradscope.frames.modules.name_filters import filters_that_leave_out


def left_out_by_name(sources: Sources, optimizer: Optimizer, tensor: int) -> tuple[str, tuple[Cause, ...]] | None:
    """Why no choice of the program's that goes by names has a parameter, and the lines; None where that is not known.

    Args:
        sources: What is known.
        optimizer: The one that does not hold it, made after it.
        tensor: The parameter.
    """
    index = sources.index
    made_at = optimizer.made.span
    if made_at < 0 or index.made_by(tensor) >= optimizer.made.op:
        return None
    file = index.recording.spans[made_at].file
    names = names_in_modules(index)
    name = names.get(tensor)
    if name is None or file < 0:
        return None
    root, own = name
    filters = filters_that_leave_out(
        index.recording.files[file].text,
        own,
        [one for other, one in names.values() if other == root],
        [names[one][1] for one in optimizer.tensors if one in names],
    )
    if not filters:
        return None
    lines = listed([f"line {sources.index.line(file, one.line)}" for one in filters])
    how = "matches no name at all" if not filters[0].matches else "leaves them out"
    choice = "the choice"
    if len(filters) > 1:
        choice, how = "the choices", how.replace("matches", "match").replace("leaves", "leave")
    causes = tuple(sources.cause_of_line("set", file, one.line, one.end_line, "") for one in filters)
    return f"the {optimizer.name} does not hold them, as {choice} by name at {lines} {how}", causes

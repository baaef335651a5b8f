"""Which condition on names kept a parameter out of its optimizer."""

from __future__ import annotations

from itertools import takewhile

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.names_in_modules import names_in_modules
from gradscope.analysis.facts.optimizers import Optimizer
from gradscope.analysis.report_model import Cause
from gradscope.analysis.wording import listed
from gradscope.frames.modules.choices_in_scope import ChoiceInScope, choices_in_scope
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
        return _by_the_only_choice(sources, optimizer, tensor, names)
    lines = listed([f"line {sources.index.line(file, one.line)}" for one in filters])
    how = "matches no name at all" if not filters[0].matches else "leaves them out"
    choice = "the choice"
    if len(filters) > 1:
        choice, how = "the choices", how.replace("matches", "match").replace("leaves", "leave")
    causes = tuple(sources.cause_of_line("set", file, one.line, one.end_line, "") for one in filters)
    return f"the {optimizer.name} does not hold them, as {choice} by name at {lines} {how}", causes


def _by_the_only_choice(
    sources: Sources, optimizer: Optimizer, tensor: int, names: dict[int, tuple[int, str]]
) -> tuple[str, tuple[Cause, ...]] | None:
    """The same where what a choice goes by is computed: all that the optimizer holds came by it, and no other way."""
    index = sources.index
    row = index.recording.spans[optimizer.made.span]
    root, own = names[tensor]
    choices = choices_in_scope(index.recording.files[row.file].text, row.line, row.end_line, own)
    held = [names.get(one) for one in optimizer.tensors]
    known = [one[1] for one in held if one is not None and one[0] == root]
    if not choices or not known or len(known) < len(held) or not _is_beside(own, known):
        return None
    if any(one.is_tracked_only for one in choices) and not index.requires_grad(tensor, optimizer.made.op):
        return None
    at = listed([_with_what_it_reads(sources, row.file, one) for one in choices])
    causes = [sources.cause_of_line("set", row.file, one.line, one.end_line, "") for one in choices]
    read = [given for one in choices for given in one.by]
    causes += [sources.cause_of_line("set", row.file, first, last, "") for _, first, last in read]
    causes += sources.cause_of_event("made", optimizer.made)
    choice, leaves = ("the choices", "leave") if len(choices) > 1 else ("the choice", "leaves")
    by_name = f"{choice} by name at {at} {leaves} them out"
    why = f"the {optimizer.name} of line {optimizer.line} does not hold them, as {by_name}"
    return why, tuple(dict.fromkeys(causes))


def _with_what_it_reads(sources: Sources, file: int, choice: ChoiceInScope) -> str:
    """``line 45 (prefixes: line 44)``."""
    line = sources.index.line
    read = [f"{name}: line {line(file, first)}" for name, first, _ in choice.by if first != choice.line]
    return f"line {line(file, choice.line)}{f' ({listed(read)})' if read else ''}"


def _is_beside(name: str, held: list[str]) -> bool:
    """Whether the innermost module that has all that is held has a parameter as well: it was there to be chosen."""
    common = held[0].split(".")[:-1]
    for other in held[1:]:
        parts = other.split(".")[:-1]
        common = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(common, parts, strict=False))]
    return name.split(".")[: len(common)] == common

"""The statement that gave the name of an optimizer's model to another one, while the optimizer held the first."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer
from gradscope.frames.names.rebuilt_names import Rebuilt, assignments_of, names_in, only_later, reads_itself


class RebuiltModel(NamedTuple):
    """One such statement."""

    file: int
    statement: Rebuilt
    function: str


class _Held(NamedTuple):
    """A name under which a tensor was seen."""

    path: str
    op: int
    file: int
    function: str
    lines: range
    """Those of the statement."""


def rebuilt_later(sources: Sources, optimizer: Optimizer, tensor: int) -> RebuiltModel | None:
    """The statement that brought a parameter under a name that was the optimizer's model's; None where it is not sure.

    What the optimizer holds under the name, or all that it holds, gets no gradient any more. That the name is the same
    shows by the names that its parameters had, or by the line that made it. The statement is the one at which the new
    name was seen first, or the only one in the source that may have given it.
    """
    index, passes = sources.index, sources.lives.passes
    names = sorted(_names(sources, tensor), key=lambda one: one.op)
    made_by = index.made_by(tensor)
    if made_by < 0 and names:  # (a library made it by what is no op: ``Parameter(torch.Tensor(3))``)
        made_by = names[0].op
    if made_by < optimizer.made.op or made_by >= index.op_count or optimizer.made.span < 0:
        return None
    in_use = {held for held in optimizer.tensors if any(op > made_by for op in passes.get(held, ())[-1:])}
    left = {(one.path, one.function) for held in optimizer.tensors - in_use for one in _names(sources, held)}
    was_held = left - {(one.path, one.function) for held in in_use for one in _names(sources, held)}
    span = index.recording.spans[optimizer.made.span]
    text = index.recording.files[span.file].text
    read = names_in(text, span.line, span.end_line)
    statements: dict[int, RebuiltModel] = {}
    for one in names:
        if one.file != span.file:
            continue
        given = [
            each
            for each in assignments_of(text, one.path, one.function)
            if (one.path, one.function) in was_held or (not in_use and each.name in read)
        ]
        seen = next((each for each in given if each.line in one.lines), None)
        is_new = seen is not None and (index.op_line(made_by) in one.lines or not reads_itself(text, seen))
        last = seen if is_new else only_later(text, given, int(optimizer.line))
        if last is not None:
            statements.setdefault(last.line, RebuiltModel(span.file, last, one.function if is_new else ""))
        if is_new:
            return statements[last.line] if last is not None else None
    return next(iter(statements.values())) if len(statements) == 1 else None


def _names(sources: Sources, tensor: int) -> list[_Held]:
    recording = sources.index.recording
    found = []
    for name, op, number in sources.names_held.get(tensor, ()):
        if number >= 0:
            span = recording.spans[number]
            lines = range(span.stmt_line, span.stmt_end_line + 1)
            found.append(_Held(recording.text(name), op, span.file, recording.text(span.function), lines))
    return found

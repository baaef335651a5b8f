"""A state that is carried on with its graph, and that only a statement detaches which never ran."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Cause
from gradscope.frames.blocks.detaches_under import DetachUnder, detaches_under
from gradscope.frames.names.put_statements import last_part


class DetachNeverRan(NamedTuple):
    """One such statement."""

    name: str
    test: str
    causes: list[Cause]
    """The statement, and the condition that it stands under."""


def detach_never_ran(sources: Sources, tensors: list[int], op: int) -> DetachNeverRan | None:
    """The conditional detach, of a name that one of some tensors had, that did not run before an op; else None.

    A statement that detaches calls torch: where no op stands at its lines it did not run. A name that other
    statements detach as well, or one does that did run, is left alone.
    """
    index, text = sources.index, sources.index.recording.text
    ran = {(where.file, where.line) for where in (index.statements[one] for one in set(index.op_statement[:op]))}
    held = [text(name) for tensor in tensors for name, _, _ in sources.names_held.get(tensor, ())]
    for name in dict.fromkeys(last_part(one.partition("[")[0]) for one in held):
        found = [
            (number, one)
            for number, file in enumerate(index.recording.files)
            if file.is_user and name
            for one in detaches_under(file.text, name)
        ]
        if len(found) == 1 and found[0][1].test and not _did_run(ran, *found[0]):
            ((number, one),) = found
            cut = sources.cause_of_line("cut", number, one.line, one.end_line, "")
            test = sources.cause_of_line("set", number, one.test_line, one.test_line, "")
            return DetachNeverRan(name, one.test, [cut, test])
    return None


def _did_run(ran: Container[tuple[int, int]], number: int, one: DetachUnder) -> bool:
    return any((number, line) in ran for line in range(one.line, one.end_line + 1))

"""Tensors that a program passes through ``torch.no_grad()`` to cut them off: they keep the graph that they have."""

from __future__ import annotations

from collections.abc import Collection

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.index import NOWHERE
from gradscope.analysis.report_model import Cause
from gradscope.analysis.worded_lines import numbers
from gradscope.frames.passed_through import PassedThrough, passed_through
from gradscope.recording.rows import BindingKind, OpKind

ADVICE = "Return its detach() there."


def uncut_by_no_grad(sources: Sources, tensors: Collection[int], before: int) -> list[Cause]:
    """The lines of regions with gradients off that tensors were handed through, and used after, before an op ran."""
    index = sources.index
    regions = [
        (number, region)
        for number, file in enumerate(index.recording.files)
        for region in (passed_through(file.text) if file.is_user else ())
    ]
    enters = [op for op in index.of_kind(OpKind.MODE) if op < before] if regions else []
    found: dict[tuple[int, int], Cause] = {}
    for tensor in tensors:
        rows = (index.recording.bindings[row] for row in sources.bindings_of.get(tensor, ()))
        names = [(_last(index.recording.text(row.name)), row.op, row.kind) for row in rows]
        made = index.recording.tensors.column("op")[tensor]
        users = [op for op in index.users.of(tensor) if op < before]
        for op in (op for op in enters if users and made < op < users[-1]):
            before_it = {name for name, at, _ in names if at <= op}
            after = {"", *before_it, *(name for name, at, kind in names if at > op and kind != BindingKind.STORE)}
            entered = [
                (number, region)
                for number, region in regions
                if region.names & before_it and region.goes_to & after and _is_at(sources, op, number, region)
            ]
            if entered and _is_handed_through(sources, op, users):
                number, region = entered[0]
                cause = sources.cause_of_line("used", number, region.line, region.end_line, "")
                found.setdefault((number, region.line), cause)
    return list(found.values())


def no_cut(causes: list[Cause]) -> str:
    """What is said of such regions."""
    lines = numbers(cause.line for cause in causes)
    which = f"line {lines} switches" if len(causes) == 1 else f"lines {lines} switch"
    return f"{which} gradients off, which cuts off nothing that only passes through"


def _is_at(sources: Sources, op: int, file: int, region: PassedThrough) -> bool:
    """Whether a call opened a region."""
    index = sources.index
    span = index.recording.ops.column("span")[op]
    if span < 0 or index.op_statement[op] == NOWHERE:
        return False
    place = index.recording.spans[span]
    return place.file == file and place.stmt_line in region.opened_at


def _last(name: str) -> str:
    """The last part of the name of a tensor, or of what it is in: ``hidden`` of ``self.hidden[0]``."""
    return name.partition("[")[0].rpartition(".")[2]


def _is_handed_through(sources: Sources, op: int, users: list[int]) -> bool:
    """Whether nothing was made of a tensor in a region: what is computed there is for something else."""
    index = sources.index
    modes = index.of_kind(OpKind.MODE)
    until = next((one for one in modes if one > op and index.func(one).endswith("__exit__")), index.op_count)
    return not any(op < user < until and len(index.tensors_made(user)) for user in users)

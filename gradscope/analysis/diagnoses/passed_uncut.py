"""Tensors passed through ``torch.no_grad()``, or through a function that detaches, that come out as they were.

They keep the graph that they have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import takewhile
from typing import NamedTuple

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.index import NOWHERE, Index
from gradscope.analysis.report_model import Cause
from gradscope.analysis.worded_lines import numbers
from gradscope.analysis.wording import listed
from gradscope.frames.values.kept_beside_detached import KeptBesideDetached, kept_beside_detached
from gradscope.frames.values.passed_through import PassedThrough, handed_on, passed_through
from gradscope.recording import NONE
from gradscope.recording.rows import BindingKind, OpKind

_ADVICE = "Return its detach() there."


class PassedUncut(NamedTuple):
    """The lines of what tensors were handed through as they are."""

    causes: list[Cause]
    why: str
    advice: str


def passed_uncut(sources: Sources, tensors: Collection[int], before: int) -> PassedUncut | None:
    """What tensors were handed through, and used after, before an op ran; None for nothing."""
    off = _passed_with_gradients_off(sources, tensors, before)
    if off:
        lines = numbers(cause.line for cause in off)
        which = f"line {lines} switches" if len(off) == 1 else f"lines {lines} switch"
        return PassedUncut(off, f"{which} gradients off, which cuts off nothing that only passes through", _ADVICE)
    beside = _beside_detached(sources, tensors, before)
    if beside:
        told = (f"line {one.cause.line} detaches {one.detached}, not {listed(list(one.names))}" for one in beside)
        return PassedUncut([one.cause for one in beside], listed(list(told)), "Detach what is put beside it, too.")
    returned = _handed_on(sources, tensors, before)
    if returned:
        lines = numbers(cause.line for cause in returned)
        which = f"line {lines} returns" if len(returned) == 1 else f"lines {lines} return"
        return PassedUncut(returned, f"{which} what it is given as it is, with its graph", _ADVICE)
    return None


def _passed_with_gradients_off(sources: Sources, tensors: Collection[int], before: int) -> list[Cause]:
    index = sources.index
    regions = _regions(sources, passed_through)
    enters = [op for op in index.of_kind(OpKind.MODE) if op < before] if regions else []
    found: dict[tuple[int, int], Cause] = {}
    for tensor in tensors:
        names = _names(sources, tensor)
        users = [op for op in index.users.of(tensor) if op < before]
        made = index.recording.tensors.column("op")[tensor]
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


class _DetachedBeside(NamedTuple):
    """A statement that detaches one thing, and what it puts beside that as it is."""

    cause: Cause
    detached: str
    names: dict[str, None]
    """In the order in which they were met."""


def _beside_detached(sources: Sources, tensors: Collection[int], before: int) -> list[_DetachedBeside]:
    """The statements that put each of some tensors beside one that they detach; none where one of them is elsewhere."""
    statements = [(number, one) for number, text in _texts(sources) for one in kept_beside_detached(text)]
    found: dict[tuple[int, int], _DetachedBeside] = {}
    for tensor in tensors if statements else ():
        put = [
            (number, one, name)
            for name, at, _ in _names(sources, tensor)
            for number, one in statements
            if name in one.kept and at < before and _is_taken_on(sources.index, tensor, at, number, one)
        ]
        if not put:
            return []
        for number, one, name in put:
            cause = sources.cause_of_line("used", number, one.line, one.end_line, "")
            found.setdefault((number, one.line), _DetachedBeside(cause, one.detached, {})).names[name] = None
    return list(found.values())


def _is_taken_on(index: Index, tensor: int, op: int, file: int, put: KeptBesideDetached) -> bool:
    """Whether an op is the detach() in such a statement, and one statement later takes both what it gave and a tensor:
    else the two may have been put into a log."""
    at = index.op_statement[op]
    if index.method(op) != "Tensor.detach" or at == NOWHERE or index.statements[at].file != file:
        return False
    if not put.line <= index.op_line(op) <= put.end_line:
        return False
    later = {index.op_statement[user] for user in index.users.of(tensor) if user > op}
    in_it = takewhile(lambda one: index.op_statement[one] == at, range(op, index.op_count))
    made = [tensor for one in in_it for tensor in index.tensors_made(one)]
    return any(index.op_statement[user] in later for one in made for user in index.users.of(one) if user > op)


def _handed_on(sources: Sources, tensors: Collection[int], before: int) -> list[Cause]:
    index = sources.index
    regions = _regions(sources, handed_on)
    found: dict[tuple[int, int], Cause] = {}
    for tensor in tensors if regions else ():
        names = _names(sources, tensor)
        held, first = {name for name, *_ in names}, min((at for _, at, _ in names), default=NONE)
        # (what is in a tuple is seen where it is put there, not where it is read: under the name that it had at once)
        read = {name for name, at, kind in names if kind == BindingKind.LOAD or at == first}
        used_at = {index.statements[index.op_statement[op]].line for op in index.users.of(tensor) if op < before}
        for number, region in regions:
            if region.names & held and (region.goes_to & read or region.called_at & used_at):
                cause = sources.cause_of_line("used", number, region.line, region.end_line, "")
                found.setdefault((number, region.line), cause)
    return list(found.values())


def _regions(sources: Sources, read: Callable[[str], list[PassedThrough]]) -> list[tuple[int, PassedThrough]]:
    """What is read of the user's files, each with the number of its file."""
    return [(number, region) for number, text in _texts(sources) for region in read(text)]


def _texts(sources: Sources) -> Iterator[tuple[int, str]]:
    """The user's files, by their numbers."""
    return ((number, file.text) for number, file in enumerate(sources.index.recording.files) if file.is_user)


def _names(sources: Sources, tensor: int) -> list[tuple[str, int, int]]:
    """The last parts of the names of a tensor, with the op before which and the way in which each was seen."""
    text = sources.index.recording.text
    rows = (sources.index.recording.bindings[row] for row in sources.bindings_of.get(tensor, ()))
    return [(_last(text(row.name)), row.op, row.kind) for row in rows]


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

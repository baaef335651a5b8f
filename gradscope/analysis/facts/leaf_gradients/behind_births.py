"""What made a value for which a call gives NaN: the mask, the bound of a clamp, the zeros that weights start from.

Or a root behind a division: that its derivative is infinite as well no guard of the division changes.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from gradscope.analysis.facts.leaf_gradients.births_of_nan import Birth
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.value_looks import PassLook, is_bad, word_for
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE

_WAYS = 12
"""Calls right behind one that are looked through for its mask."""
_MASKED = ("softmax", "attention")
_CLAMPS = ("clamp", "clip", "hardtanh", "clamp_", "clip_", "hardtanh_")
_WEIGHT_NORM = "_weight_norm"
_ZEROS = ("zeros_", "zero_")
_NUMBER = re.compile(r"(?<![\w.])-?\d+\.?\d*(?:e-?\d+)?")


class Behind(NamedTuple):
    """Another line to look at."""

    op: int
    why: str
    """What it has to do with it, a clause of its own."""
    is_first: bool = False
    """It is the line to change."""
    ends_too: bool = False
    """It is a call whose own derivative is not finite."""


def behind_birth(index: Index, birth: Birth, look: PassLook, passes: Passes) -> Behind | None:
    """What made the value at which a call ends; None where that is not known."""
    short = index.func(birth.op).rpartition(".")[2]
    if birth.is_derivative and birth.at is not None:
        return _bound(index, birth.op, birth.at) or _ends_too(index, birth, look, passes)
    if not birth.is_nan or birth.is_derivative:
        return None
    if any(word in short for word in _MASKED):
        return _mask(index, birth.op, birth.mask)
    return _zeros(index, birth.op) if short == _WEIGHT_NORM else None


def _bound(index: Index, op: int, at: float) -> Behind | None:
    """The clamp of an input to a number that is written there, at which the derivative of the call ends."""
    for tensor in index.uses.of(op):
        made = index.made_by(tensor)
        if made < 0 or index.func(made).rpartition(".")[2] not in _CLAMPS:
            continue
        written = [float(number) for number in _NUMBER.findall(index.span_source(made))]
        if at in written and index.op_statement[made] != index.op_statement[op]:
            return Behind(made, f"line {index.op_line(made)} clamps its input to {at:g}")
    return None


def _ends_too(index: Index, birth: Birth, look: PassLook, passes: Passes) -> Behind | None:
    """The first call behind it, of another line, whose derivative is not finite either at what it keeps.

    It is the one to change where the value at which the other ends was computed from what it gave alone.
    """
    made_by = index.recording.nodes.column("op")
    bad = [one for one in look.derivatives if is_bad(one.values) and made_by[one.node] >= 0]
    own = {one.node for one in bad if made_by[one.node] == birth.op}
    behind = {node for one in own for node in passes.behind(one)} - own
    here = index.op_statement[birth.op]
    found = [
        (made_by[one.node], one)
        for one in bad
        if one.node in behind
        and one.at is not None
        and math.isfinite(one.at)
        and index.op_statement[made_by[one.node]] not in (here, NOWHERE)
    ]
    if not found:
        return None
    op, derivative = min(found, key=lambda pair: pair[0])
    same = birth.values is not None and word_for(birth.values) == word_for(derivative.values)
    of_it = f"so is that of {index.call_name(op)} behind it"
    if not same:
        of_it = f"that of {index.call_name(op)} behind it is {word_for(derivative.values)}"
    why = f"{of_it}, where that keeps {derivative.at:g}, at line {index.op_line(op)}"
    return Behind(op, why, birth.at == 0 == derivative.at and _is_made_of(index, birth.op, op), True)


def _is_made_of(index: Index, op: int, source: int) -> bool:
    """Whether what a call ends at was made of another call's result alone: the divisor, or the only thing it takes."""
    for _ in range(_WAYS):
        taken = index.uses.of(op)
        if not taken or (len(set(taken)) > 1 and not index.func(op).rpartition(".")[2].endswith("div")):
            return False
        op = index.made_by(taken[-1])
        if op == source or op < 0:
            return op == source
    return False


def _mask(index: Index, op: int, filled: int) -> Behind | None:
    """The last line before it, and before that which fills by it, that made a mask of booleans which a call takes."""
    recording, found = index.recording, dict[int, None]()
    todo, seen = [op], {op}
    while todo and len(seen) < _WAYS:
        current = todo.pop(0)
        for tensor in index.uses.of(current):
            made = index.made_by(tensor)
            layout = recording.layouts[index.layout_at(tensor, current)]
            if recording.text(layout.dtype) == "bool" and 0 <= made < op:
                found[made] = None
            if 0 <= made < op and made not in seen:
                seen.add(made)
                todo.append(made)
    here = {index.op_statement[one] for one in (op, filled) if one >= 0}
    elsewhere = [made for made in found if index.op_statement[made] not in here and index.op_line(made)]
    if not elsewhere:
        return None
    made = max(elsewhere)
    covers = "" if filled >= 0 else "; a row of which it covers every entry is NaN"
    return Behind(made, f"line {index.op_line(made)} made the mask{covers}")


def _zeros(index: Index, op: int) -> Behind | None:
    """What last set to zero the memory of a weight that is divided by its norm."""
    blocks = {index.storage_at(tensor, op) for tensor in index.uses.of(op)}
    last = NONE
    for written, tensor, _, _ in all_writes(index):
        if last < written < op and index.storage_at(tensor, written) in blocks:
            last = written
    if last < 0 or index.func(last).rpartition(".")[2] not in _ZEROS:
        return None
    call = index.call_name(last)
    return Behind(
        last, f"line {index.op_line(last)} ({call}) sets the weight to 0, and it is divided by its norm", True
    )

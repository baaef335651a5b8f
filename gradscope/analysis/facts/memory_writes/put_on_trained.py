"""Networks that were put on the memory of a trained one, and then used as if they had values of their own.

``x.data = y.data`` and ``load_state_dict(…, assign=True)`` copy nothing. One time is enough where a copy was meant: the
network had been at work with values of its own, or its name says that it is to stay behind. Two that were one from the
start may be meant to be, as is one that is put there to be evaluated, before the next step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modules.assigned_loads import assigning_load, assigning_loads
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, ops_between
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, PARAMETER
from gradscope.recording.rows import OpKind

STEPS = 2
"""Steps of the trained network since, after which the other one is used."""

SETS = ("Tensor.data.__set__", "Tensor.set_")
_SAME_MEMORY = ("Tensor.data.__get__", "Tensor.detach", "Tensor.requires_grad_")
_STATE = "nn.Module.state_dict"
_STAYS_BEHIND = re.compile(
    r"(^|[._])(target|tgt|teacher|ema|averaged?|momentum|frozen|reference|ref|old|prev|previous|past|opponent|rival"
    r"|lagged|delayed|slow|anchor|snapshot|backup)s?(?=$|[._\[\d])",
    re.IGNORECASE,
)
"""In a name: of a network that does not go along with each step of another."""


class PutOnTrained(NamedTuple):
    """A parameter that was put on the memory of one that an optimizer steps."""

    op: int
    """The call that did so."""
    put: int
    trained: int
    steps: int
    """Steps that changed both since."""
    used: int
    """A use of the former after these."""


def put_on_trained(
    index: Index, lives: GradientLives, held: dict[int, list[tuple[int, int, int]]]
) -> Iterator[PutOnTrained]:
    """Those that were at work on memory of their own, or have a name that says so.

    Args:
        index: The recording.
        lives: Steps of its parameters.
        held: For each tensor the names under which it was seen, with op and span.
    """
    puts = [*_set(index, lives), *_loaded(index, lives)]
    until: dict[int, list[int]] = {}
    for op in index.calls_of(SETS.__contains__) if puts else ():
        for put in index.uses.of(op)[:1]:
            until.setdefault(put, []).append(op)
    for op, put, trained, before in puts:
        end = next((later for later in until.get(put, ()) if later > op), index.op_count)
        storage = index.storage_at(trained, op)
        steps = [
            step
            for step in ops_between(lives.steps[trained], op, end)
            if index.storage_at(trained, step) == storage == index.storage_at(put, step)
        ]
        uses = used_alone(index, put, trained)
        used = next(iter(ops_between(uses, steps[STEPS - 1], end)), NONE) if len(steps) >= STEPS else NONE
        if used < 0:
            continue
        was_at_work = any(use < op for one in before for use in used_alone(index, one, trained))
        names = {index.recording.text(name) for name, _, _ in held.get(put, ())}
        if (was_at_work and lives.steps[trained][0] < op) or any(map(_STAYS_BEHIND.search, names)):
            yield PutOnTrained(op, put, trained, index.times(steps), used)


def used_alone(index: Index, tensor: int, other: int) -> list[int]:
    """The calls, in order, that computed with a tensor and not with another one: a comparison is no work of its."""
    kinds = index.recording.ops.column("kind")
    return [
        op
        for op in index.users.of(tensor)
        if kinds[op] == OpKind.CALL
        and index.method(op) not in _SAME_MEMORY
        and index.tensors_made(op)
        and other not in index.uses.of(op)
    ]


def source_of(index: Index, value: int) -> int:
    """The tensor whose ``.data`` a value is; the value itself where it is nobody's."""
    made = index.made_by(value)
    if 0 <= made < index.op_count and index.method(made) in _SAME_MEMORY and len(index.uses.of(made)):
        return index.uses.of(made)[0]
    return value


def _set(index: Index, lives: GradientLives) -> Iterator[tuple[int, int, int, list[int]]]:
    """What ``x.data = y.data`` put on other memory: op, ``x``, ``y``, and what was at work before (``x`` itself)."""
    for op in index.calls_of(SETS.__contains__):
        taken = index.uses.of(op)
        if len(taken) != 2:
            continue
        put, trained = taken[0], source_of(index, taken[1])
        is_new = index.storage_at(put, op - 1) != index.storage_at(trained, op - 1) == index.storage_at(put, op)
        if put != trained and trained in lives.steps and put not in lives.steps and is_new:
            yield op, put, trained, [put]


def _loaded(index: Index, lives: GradientLives) -> Iterator[tuple[int, int, int, list[int]]]:
    """What a load with ``assign`` put into a module in place of what that had, from the state of a trained one."""
    if not assigning_loads(index):
        return
    flags, seen_at, on = (index.recording.tensors.column(name) for name in ("flags", "op", "storage"))
    given: dict[int, int] = {}
    for op in index.calls_of(_STATE.__eq__):
        given.update((on[tensor], op) for tensor in index.tensors_made(op) if on[tensor] not in given)
    trained = {on[tensor]: tensor for tensor in lives.steps if on[tensor] in given and tensor not in index.moves}
    for put, is_one in enumerate(flags):
        other = trained.get(on[put], put)
        is_new = is_one & (PARAMETER | EXTERNAL) == PARAMETER | EXTERNAL and other != put and put not in lives.steps
        if is_new and seen_at[other] < seen_at[put]:
            load = assigning_load(index, put, given[on[put]])
            if load >= 0:
                yield load, put, other, []

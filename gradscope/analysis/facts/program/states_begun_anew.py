"""Parameters that took the place of others in an optimizer's groups, and whose state a step had to begin anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.shapes import shape_of
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.facts.writes import all_steps
from gradscope.analysis.index import Index
from gradscope.frames.names.keys_of_states import WrongKey, wrong_keys

_STEPS = 2
"""Steps of what was replaced from which on there is something to carry over."""


class StateBegunAnew(NamedTuple):
    """What one look-up left behind."""

    file: int
    key: WrongKey
    tensors: tuple[int, ...]
    """The new parameters."""
    taken: tuple[int, ...]
    """The steps that had been made of those before."""
    step: int
    """The step that began the state of the new ones."""


def states_begun_anew(index: Index, flow: Flow, events: Events) -> Iterator[StateBegunAnew]:
    """One for each look-up under a wrong key of a program whose new parameters had no state at their first step."""
    files = [(at, file.text) for at, file in enumerate(index.recording.files) if file.is_user]
    keys = [(file, key) for file, text in files for key in wrong_keys(text)]
    if not keys:
        return
    steps: dict[int, list[int]] = {}
    for op in all_steps(index):
        for tensor in index.uses.of(op):
            steps.setdefault(tensor, []).append(op)
    replaced: dict[int, list[tuple[int, int]]] = {}
    for tensor, ops in steps.items():
        if tensor in events.in_optimizers or not _begins_state(index, tensor, ops[0]):
            continue
        origins = flow.origins(tensor, ops[0])
        for other in origins:
            before = steps.get(other, [])
            if other != tensor and len(before) >= _STEPS and before[-1] < ops[0]:
                replaced.setdefault(ops[0], []).append((tensor, other))
    for file, key in keys:
        for step, pairs in replaced.items():
            taken = steps[pairs[0][1]]
            if any(_runs(index, op, file, key) for op in range(taken[-1] + 1, step)):
                yield StateBegunAnew(file, key, tuple(dict.fromkeys(one for one, _ in pairs)), tuple(taken), step)
                break


def _begins_state(index: Index, tensor: int, step: int) -> bool:
    """Whether a step made tensors of a parameter's shape: moments, which it had none of."""
    shape = shape_of(index, tensor)
    return any(shape_of(index, one) == shape for one in index.tensors_made(step))


def _runs(index: Index, op: int, file: int, key: WrongKey) -> bool:
    """Whether an op is of the function that looks the state up, or of a statement that calls it."""
    at = index.op_statement[op]
    if at < 0 or index.statements[at].file != file:
        return False
    place = index.op_place(op)
    return place.function.rpartition(".")[2] == key.function or f"{key.function}(" in place.source

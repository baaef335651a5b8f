"""Gradients that were views of one buffer, set to None since: backward makes others, and the buffer stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before
from gradscope.analysis.index import Index
from gradscope.recording.rows import Field, OpKind

VIEWS = 2
"""Gradients on one buffer from which on it is one."""
_DEPTH = 8
"""Calls that are followed from what meets the buffer back to it."""


class LostViews(NamedTuple):
    """One buffer."""

    buffer: int
    """The first tensor that is all of it."""
    parameters: list[int]
    cleared: int
    """The call that set their gradients to None."""
    passes: list[int]
    """Passes that made other gradients, after each of which the buffer was used."""
    used: int
    """The last op that did so."""


class _Set(NamedTuple):
    op: int
    tensor: int
    gradient: int


def lost_views(index: Index, lives: GradientLives) -> Iterator[LostViews]:
    """Those of a recording; none where the buffer is attached anew, or is given the gradients otherwise."""
    attached, taken = dict[int, list[_Set]](), dict[int, int]()
    changes = index.recording.changes
    columns = (changes.column(name) for name in ("op", "tensor", "field", "before", "after"))
    for op, tensor, field, before, after in zip(*columns, strict=True):
        if field == Field.GRAD and after >= 0 and op < index.op_count:
            attached.setdefault(index.storage_at(after, op), []).append(_Set(op, tensor, after))
        elif field == Field.GRAD and before >= 0:
            taken.setdefault(before, op)
    for block, views in attached.items():
        cleared = [taken[one.gradient] for one in views if one.gradient in taken]
        parameters = list(dict.fromkeys(one.tensor for one in views))
        if block < 0 or len(parameters) < VIEWS or len(cleared) < len(views) or max(cleared) >= index.op_count:
            continue
        is_attached_again = max(one.op for one in views) > min(cleared)
        if not is_attached_again and (found := _lost(index, lives, block, parameters, max(cleared))) is not None:
            yield found


def _lost(index: Index, lives: GradientLives, block: int, parameters: list[int], cleared: int) -> LostViews | None:
    passes = sorted({op for one in parameters for op in lives.passes.get(one, ()) if op > cleared})
    stepped = any(first_after(lives.steps.get(one, []), cleared) >= 0 for one in parameters)
    storages, kinds = index.recording.tensors.column("storage"), index.recording.ops.column("kind")
    on_it = [tensor for tensor, storage in enumerate(storages) if storage == block]
    if not passes or not stepped:
        return None
    uses = sorted({op for tensor in on_it for op in index.users.of(tensor) if op > passes[0]})
    uses = [op for op in uses if kinds[op] != OpKind.SET]
    own = set(on_it)
    if not all(_is_of_buffer(index, one, own, cleared, _DEPTH) for op in uses for one in index.uses.of(op)):
        return None
    rounds = list(dict.fromkeys(last_before(passes, op) for op in uses))
    return LostViews(on_it[0], parameters, cleared, rounds, uses[-1]) if uses else None


def _is_of_buffer(index: Index, tensor: int, own: set[int], since: int, depth: int) -> bool:
    """Whether a tensor is on the buffer, or was computed from it alone."""
    if tensor in own:
        return True
    made = index.made_by(tensor)
    if depth == 0 or made <= since:
        return False
    taken = index.uses.of(made)
    is_of_it = len(taken) > 0 and all(_is_of_buffer(index, one, own, since, depth - 1) for one in taken)
    if is_of_it:
        own.add(tensor)
    return is_of_it

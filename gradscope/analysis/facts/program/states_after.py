"""What was true of a tensor after an op: its state at birth, and the changes up to there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, INFERENCE_TENSOR, LEAF, NO_VERSION, REQUIRES_GRAD
from gradscope.recording.rows import Field


@dataclass(eq=False, repr=False)
class State:
    """A tensor after an op. Ids of the recording; ``version`` is None where it has no counter."""

    requires_grad: bool
    is_leaf: bool
    node: int
    storage: int
    layout: int
    version: int | None
    offset: int
    """In elements."""
    requires_grad_before: bool | None = None
    version_before: int | None = None


class StatesAfter:
    """States of a chosen set of tensors (the changes of all others are never looked at).

    Args:
        index: The recording.
        tensors: The tensors that will be asked for.
    """

    def __init__(self, index: Index, tensors: Iterable[int]) -> None:
        self._recording, self._found, self._given = index.recording, index.found_versions, index.given_at_use
        self._given_by = index.given_by_functions
        wanted: dict[int, list[int]] = {tensor: [] for tensor in tensors}
        for row, tensor in enumerate(self._recording.changes.column("tensor")):
            if tensor in wanted:
                wanted[tensor].append(row)
        self._changes = wanted
        self._written_inside = self._versions_of_parts()
        aliases = self._recording.aliases
        pairs = zip(aliases.column("tensor"), aliases.column("offset"), strict=True)
        self._offsets = {tensor: offset for tensor, offset in pairs if tensor in wanted}

    def after(self, tensor: int, op: int, since: int | None = None) -> State:
        """The state of a tensor after an op; ``…_before`` is what it was before the op ``since``, where it differs."""
        born = self._recording.tensors[tensor]
        flags = born.flags
        has_version = not flags & (INFERENCE_TENSOR | NO_VERSION)
        state = State(
            requires_grad=bool(flags & REQUIRES_GRAD),
            is_leaf=bool(flags & LEAF),
            node=born.node,
            storage=born.storage,
            layout=born.layout,
            version=0 if has_version else None,
            offset=self._offsets.get(tensor, 0),
        )
        changes = self._recording.changes
        ops, fields, befores, afters = (changes.column(name) for name in ("op", "field", "before", "after"))
        for row in self._changes[tensor]:
            if ops[row] > op:
                break
            at_birth = row in self._found or (ops[row] == born.op and not flags & EXTERNAL)
            if at_birth and fields[row] == Field.VERSION and self._is_of_later_write(tensor, row):
                continue
            self._apply(state, fields[row], afters[row])
            # (without its grad_fn the program never had what a Function's apply gave it)
            is_first = fields[row] == Field.REQUIRES_GRAD and self._given_by.get(tensor, NONE) == ops[row]
            if since is not None and ops[row] >= since and not at_birth and not is_first:
                self._remember(state, fields[row], befores[row])
        if state.version is not None and op == born.op:
            state.version = max(state.version, self._written_inside.get(tensor, 0))
        given_at, node = self._given.get(tensor, (op + 1, NONE))
        if state.node < 0 and given_at <= op:
            self._apply(state, Field.GRAD_FN, node)
        return state

    def _versions_of_parts(self) -> dict[int, int]:
        """For tensors whose parts the very call that made them wrote, as ``nn.Embedding`` its padding: the version."""
        recording = self._recording
        made_at, aliases, changes = recording.tensors.column("op"), recording.aliases, recording.changes
        columns = (aliases.column(name) for name in ("tensor", "base", "shares_version"))
        parts = {
            part: base
            for part, base, shares in zip(*columns, strict=True)
            if shares == 1 and base in self._changes and made_at[part] == made_at[base]
        }
        found: dict[int, int] = {}
        columns = (changes.column(name) for name in ("tensor", "op", "field", "after"))
        for part, op, field, version in zip(*columns, strict=True) if parts else ():
            if part in parts and field == Field.VERSION and op == made_at[part]:
                found[parts[part]] = max(found.get(parts[part], 0), version)
        return found

    def _is_of_later_write(self, tensor: int, born: int) -> bool:
        """Whether the version that a tensor was first seen at came of a write: it is entered when that is over."""
        ops, fields, befores, afters = (
            self._recording.changes.column(name) for name in ("op", "field", "before", "after")
        )
        later = (row for row in self._changes[tensor] if fields[row] == Field.VERSION and ops[row] > ops[born])
        first = next(later, None)
        return first is not None and befores[first] < afters[born]

    @staticmethod
    def _apply(state: State, field: int, after: int) -> None:
        if field == Field.VERSION:
            state.version = after
        elif field == Field.REQUIRES_GRAD:
            state.requires_grad = bool(after)
        elif field == Field.GRAD_FN:
            state.node = after
            state.is_leaf = after == NONE
        elif field == Field.LEAF:
            state.is_leaf = bool(after)
        elif field == Field.STORAGE:
            state.storage = after
        elif field == Field.LAYOUT:
            state.layout = after
        elif field == Field.OFFSET:
            state.offset = after

    @staticmethod
    def _remember(state: State, field: int, before: int) -> None:
        if field == Field.VERSION and state.version_before is None:
            state.version_before = before
        elif field == Field.REQUIRES_GRAD and state.requires_grad_before is None:
            state.requires_grad_before = bool(before)

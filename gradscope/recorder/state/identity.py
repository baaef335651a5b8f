"""Which tensors and storages have been seen, told apart by weak reference: nothing here keeps one alive.

``id()`` is reused at once after a free. Every tensor and storage that is seen gets a weak reference whose callback
puts it on the list of the dead; the list is worked off before ids are looked up, so a key that is found belongs to a
live object. (A storage's Python object lives as long as the storage itself, so its death is the storage's.)

What is known of each is kept on its weak reference (:class:`Seen`, :class:`SeenStorage`), so that there is one object
for each: the garbage collector visits them, and the program pays for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.parameter import UninitializedParameter
from torch.utils._mode_utils import no_dispatch

from gradscope.recorder.state.moves import Moves
from gradscope.recorder.state.version_counters import shares_version
from gradscope.recorder.tape import Tape
from gradscope.recorder.torch_internals.capabilities import is_copied_on_write
from gradscope.recording.flags import (
    EXTERNAL,
    INFERENCE_TENSOR,
    NO_STORAGE,
    NO_VERSION,
    PARAMETER,
    REQUIRES_GRAD,
    SUBCLASS,
    VERSION_FIELD,
    VIEW,
)
from gradscope.recording.tables import NONE

_TYPED = SUBCLASS | PARAMETER
_COMPRESSED_PARTS = {
    torch.sparse_csr: ("values", "crow_indices", "col_indices"),
    torch.sparse_bsr: ("values", "crow_indices", "col_indices"),
    torch.sparse_csc: ("values", "ccol_indices", "row_indices"),
    torch.sparse_bsc: ("values", "ccol_indices", "row_indices"),
}
_SPARSE_PARTS = {torch.sparse_coo: ("_values", "_indices"), **_COMPRESSED_PARTS}
_META = torch.device("meta")


class Seen(ref[Any]):
    """A weak reference to a tensor, and what is known of it as of the last op that touched it."""

    __slots__ = ("first_version", "key", "layout", "nbytes", "node", "requires_grad", "row", "storage")

    key: int
    """Its ``id()``."""
    row: int
    storage: int
    layout: int
    node: int
    """Row of its ``grad_fn``, or NONE."""
    nbytes: int
    """Of its elements."""
    requires_grad: bool | None
    """None: it did not when an op made it without grad mode, as in the ``forward`` of a custom Function, whose
    ``apply`` gives it a ``grad_fn`` unseen."""
    first_version: int
    """Its version when it was first seen; not there where that was 0 or is not known."""


_OF_CONTENT = ("layout", "nbytes", "node", "requires_grad", "row", "storage")
"""Of :class:`Seen`, what does not belong to the Python object."""


class SeenStorage(ref[Any]):
    """A weak reference to a storage, and what is known of it."""

    __slots__ = ("first", "key", "nbytes", "row")

    key: int
    """Its ``id()``."""
    row: int
    nbytes: int
    first: Seen | None
    """The first tensor seen on it that lives (or the last that did), if one was."""


class Identity:
    """The live tensors and storages by ``id()``."""

    __slots__ = ("__dict__", "__weakref__", "alike_storages", "alike_tensors", "has_unsure", "leaves")

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.tensors: dict[int, Seen] = {}
        self.storages: dict[int, SeenStorage] = {}
        self.dead: list[Any] = []
        """What has died and is not forgotten yet: ``Seen`` and ``SeenStorage``."""
        self.leaves: dict[int, Seen] = {}
        """Live tensors whose ``.grad`` a backward pass may set, by tensor row."""
        self.alike_tensors: dict[int, int] = {}
        """By row: how many further tensors live that it stands for; their own were taken out."""
        self.alike_storages: dict[int, int] = {}
        self.has_unsure = False
        """Whether any :class:`Seen` had None for ``requires_grad``."""
        self._layouts: dict[Any, tuple[int, int]] = {}
        self._tensor_rows = tape.pending["tensors"]
        self._storage_rows = tape.pending["storages"]
        self._entomb = self.dead.append

    def bury(self) -> None:
        """Forget what has died since the last call; it was gone at the start of the op that comes now."""
        tape, dead = self.tape, self.dead
        while dead:
            gone = dead.pop()
            try:
                key = gone.key
            except AttributeError:  # an interrupt came while it was being entered
                continue
            if type(gone) is Seen:
                self.tensors.pop(key, None)
                if self.leaves.get(gone.row) is gone:
                    del self.leaves[gone.row]
                if not (self.alike_tensors and _one_less(self.alike_tensors, gone.row)):
                    tape.tensor_deaths += (gone.row, tape.op_count)
            else:
                self.storages.pop(key, None)
                if not (self.alike_storages and _one_less(self.alike_storages, gone.row)):
                    tape.storage_deaths += (gone.row, tape.op_count)

    def move(self, moves: Moves) -> None:
        """Know what lives by its new row; what of it was taken out, by the row that stands for it."""
        tensors, storages, nodes = (moves[name] for name in ("tensors", "storages", "nodes"))
        for seen in self.tensors.values():
            if seen.row >= tensors.start:
                seen.row = tensors(seen.row)
            if seen.storage >= storages.start or seen.node >= nodes.start:
                seen.storage, seen.node = storages(seen.storage), nodes(seen.node)
        for known in self.storages.values():
            if known.row >= storages.start:
                known.row = storages(known.row)
        self.alike_tensors, self.alike_storages = (
            {row: count - 1 for row, count in Counter(one.row for one in living).items() if count > 1}
            for living in (self.tensors.values(), self.storages.values())
        )
        self.leaves = {seen.row: seen for seen in self.leaves.values()}

    def add(self, tensor: Any, op: int, node: int, flags: int, inputs: Sequence[Any]) -> Seen:
        """Enter a tensor that was not seen before.

        Args:
            tensor: The tensor; ``requires_grad`` is in ``flags``.
            op: The op that made it, or before which it was first seen.
            node: Its ``grad_fn`` (a row), or NONE.
            flags: :class:`TensorFlag` so far.
            inputs: The op's tensors, among which its base is looked for.
        """
        tape = self.tape
        row = tape.tensor_count
        if type(tensor) is not Tensor:
            flags |= _type_flag(tensor)
        known = None
        try:
            storage = tensor.untyped_storage()
        except (RuntimeError, NotImplementedError):
            place = NONE
            flags |= NO_STORAGE
        else:
            known = self.storages.get(id(storage))
            place = NONE if known is None else known.row
        layout, nbytes = self.layout(tensor)
        version = 0
        try:
            version = tensor._version
        except RuntimeError:
            flags |= INFERENCE_TENSOR if tensor.is_inference() else NO_VERSION
        seen = Seen(tensor, self._entomb)
        seen.row = row
        if known is not None:
            if tensor._is_view():
                flags |= VIEW
        elif not flags & NO_STORAGE:
            place = self.add_storage(storage, tensor, op, flags, seen)
        else:
            self._add_parts(tensor, op, flags)
        # No call stands between the count and the row: an interrupt cannot come between them.
        tape.tensor_count = row + 1
        self._tensor_rows += (op, place, layout, node, flags, NONE)
        if version:
            seen.first_version = version
            tape.pending["changes"] += (op, row, VERSION_FIELD, 0, version)
        if known is not None:
            self._note_alias(tensor, seen, known, inputs)
        seen.storage, seen.layout, seen.node, seen.nbytes = place, layout, node, nbytes
        seen.requires_grad = requires_grad = flags & REQUIRES_GRAD != 0
        identity = id(tensor)
        # Nor does one between the key and its entry: what has a key is found under it.
        seen.key = identity
        self.tensors[identity] = seen
        if requires_grad and node == NONE:
            self.leaves[row] = seen
        return seen

    def add_storage(self, storage: Any, tensor: Any, op: int, flags: int, first: Seen | None) -> int:
        """Enter a storage that was not seen before, with the tensor on it and its flags, and return its row."""
        tape = self.tape
        row = tape.storage_count
        if flags & _TYPED and storage.device == _META:
            pointer = 0  # a fake tensor's, which warns when it is asked for its address
        else:
            try:
                is_cow = type(tensor) is Tensor and is_copied_on_write(tensor)
                pointer = 0 if is_cow else storage.data_ptr()
            except RuntimeError:
                pointer = 0
        nbytes = storage.nbytes()  # symbolic while a program is exported: to make a number of it would bind its sizes
        seen = SeenStorage(storage, self._entomb)
        seen.row, seen.first = row, first
        seen.nbytes = size = nbytes if type(nbytes) is int else 0
        tape.storage_count = row + 1
        self._storage_rows += (op, size, pointer, NONE, 1 if flags & EXTERNAL else 0)
        key = id(storage)
        seen.key = key
        self.storages[key] = seen
        return row

    def _add_parts(self, tensor: Any, op: int, flags: int) -> None:
        """Enter the storages of a sparse tensor's values and indices: it has none of its own."""
        if flags & SUBCLASS or tensor.layout not in _SPARSE_PARTS:
            return
        try:
            storages = [(part, part.untyped_storage()) for part in _sparse_parts(tensor)]
        except (RuntimeError, NotImplementedError):  # inside a transform such as vmap
            return
        for part, storage in storages:
            if id(storage) not in self.storages:
                self.add_storage(storage, part, op, flags & EXTERNAL, None)

    def exchange(self, first: Any, second: Any) -> None:
        """Two tensors that are known have been given each other's content: what is known of it goes with it."""
        one, other = self.tensors[id(first)], self.tensors[id(second)]
        for name in _OF_CONTENT:
            mine, its = getattr(one, name), getattr(other, name)
            setattr(one, name, its)
            setattr(other, name, mine)
        versions = [getattr(seen, "first_version", 0) for seen in (one, other)]
        other.first_version, one.first_version = versions
        watched = {seen.row: seen for seen in (one, other) if seen.row in self.leaves}
        self.leaves.update(watched)
        for tensor, now, before in ((first, one, other), (second, other, one)):
            try:
                storage = self.storages.get(id(tensor.untyped_storage()))
            except (RuntimeError, NotImplementedError):
                continue
            if storage is not None and storage.first is before:
                storage.first = now

    def living_bytes(self) -> int:
        """Bytes of the storages that live; it may be asked in a thread beside the program's, of what is known then."""
        return sum(known.nbytes for known in list(self.storages.values()))

    def watch_grad(self, seen: Seen) -> None:
        """Look at the ``.grad`` of a tensor around backward passes: a leaf since now, or one that retains its grad."""
        self.leaves[seen.row] = seen

    def row_of(self, tensor: Any) -> int:
        """Row of a tensor that was seen, or NONE; it may be asked for while the list of the dead is not worked off."""
        seen = self.tensors.get(id(tensor))
        return NONE if seen is None or seen() is not tensor else seen.row

    def tensor_on(self, storage: Any) -> Any:
        """A known tensor that lives on a storage, or None."""
        known = self.storages.get(id(storage))
        if known is None:
            return None
        first = None if known.first is None else known.first()
        if first is not None:
            return first
        return next((seen() for seen in self.tensors.values() if seen.storage == known.row), None)

    def storage_of(self, tensor: Any, op: int) -> int:
        """Row of the storage that a tensor is on now; the tensor itself is not entered."""
        try:
            storage = tensor.untyped_storage()
        except (RuntimeError, NotImplementedError):
            return NONE
        known = self.storages.get(id(storage))
        if known is not None:
            return known.row
        # A number that torch wrapped in a tensor is no memory of the program's.
        flags = 0 if tensor.dim() else EXTERNAL
        if type(tensor) is not Tensor:
            flags |= _type_flag(tensor)
        return self.add_storage(storage, tensor, op, flags, None)

    def grown_storage_of(self, tensor: Any, storage: int, op: int) -> tuple[int, list[Seen]]:
        """The row of a tensor's storage, and which known tensors are on it: a new one where its memory has grown.

        ``resize_`` then allocates another block for the same storage, and whatever is on it moves along.

        Args:
            tensor: The tensor.
            storage: The row of its storage before.
            op: The op that may have made it grow.
        """
        if storage == NONE:
            self._add_parts(tensor, op, 0 if type(tensor) is Tensor else _type_flag(tensor))
            return storage, []
        memory = tensor.untyped_storage()
        known, nbytes = self.storages.get(id(memory)), memory.nbytes()
        if known is None or type(nbytes) is not int or nbytes <= known.nbytes:
            return storage, []
        self.tape.storage_deaths += (storage, op)
        moved = [seen for seen in self.tensors.values() if seen.storage == storage]
        return self.add_storage(memory, tensor, op, 0, known.first), moved

    def bytes_of(self, tensor: Any) -> int:
        """Bytes of a tensor's elements."""
        if type(tensor) is Tensor and tensor.layout is torch.strided and not tensor.is_nested:
            nbytes: int = tensor.nbytes
            return nbytes
        return self.layout(tensor)[1]

    def layout(self, tensor: Any) -> tuple[int, int]:
        """Row of a tensor's layout, and the bytes of its elements."""
        try:
            kind = None if type(tensor) is Tensor else type(tensor).__name__
            key: Any = (tensor.shape, tensor.stride(), tensor.dtype, tensor.device, kind)
            known = self._layouts.get(key)
            if tensor.layout is torch.sparse_coo:
                key = known = None  # (its strides, 0, do not tell how many elements are there)
        except (RuntimeError, NotImplementedError, TypeError):
            key = None  # a layout without strides, or with symbolic ones
            known = None
        return known or self._new_layout(tensor, key)

    def _new_layout(self, tensor: Any, key: Any) -> tuple[int, int]:
        text = self.tape.text
        kind: Any = type(tensor)
        # A lazy module's parameter is given its memory first, and its class then; until then it hides its shape.
        is_given = issubclass(kind, UninitializedParameter) and tensor.numel() > 0
        if is_given:
            key, kind = (tensor.size(), tensor.stride()), kind.cls_to_become
        try:
            shape = _written(tensor.size() if is_given else tensor.shape)
        except (RuntimeError, TypeError, ValueError, AttributeError):
            shape = "(?)"  # of a nested tensor
        try:
            nbytes = _bytes_of_elements(tensor)
        except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError):
            nbytes = 0
        row = (
            text(shape),
            text(str(tuple(key[1])) if key is not None and shape != "(?)" else ""),
            text(str(tensor.dtype).removeprefix("torch.")),
            text(str(tensor.device)),
            text(kind.__name__),
            text(str(tensor.layout).removeprefix("torch.")),
            nbytes,
        )
        key = row if key is None or is_given else key
        known: tuple[int, int] | None = self._layouts.get(key)
        if known is None:
            known = (len(self._layouts), nbytes)
            self.tape.pending["layouts"] += row
            self._layouts[key] = known
        return known

    def _note_alias(self, tensor: Any, alias: Seen, known: SeenStorage, inputs: Sequence[Any]) -> None:
        """Keep what a tensor is an alias of: an input on the same storage, or else the first seen on it that lives."""
        base: Seen | None
        for candidate in inputs:
            seen = self.tensors.get(id(candidate))
            if seen is not None and seen.storage == known.row:
                base, other = seen, candidate
                break
        else:
            base, other = known.first, None if known.first is None else known.first()
        if other is None:
            known.first = alias  # the next one is compared with one that lives
        if base is not None:
            shares = NONE if other is None else shares_version(tensor, other)
            offset = tensor.storage_offset()
            self.tape.pending["aliases"] += (alias.row, base.row, offset if type(offset) is int else 0, shares)


def _one_less(alike: dict[int, int], row: int) -> bool:
    """Count one of those less that a row stands for; returns whether there was one besides its own."""
    count = alike.get(row, 0)
    if count > 1:
        alike[row] = count - 1
    elif count:
        del alike[row]
    return count > 0


def _written(sizes: Sequence[Any]) -> str:
    """Sizes as a tuple is written, a symbol by its name."""
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"


def _bytes_of_elements(tensor: Any) -> int:
    """What a tensor's elements take up: of a sparse one, those that are there, with their indices.

    0 where the sizes are symbols: to make a number of one would bind the program's dimension to its example.
    """
    itemsize: int = tensor.element_size()
    if tensor.layout in _COMPRESSED_PARTS:
        return sum(part.numel() * part.element_size() for part in _sparse_parts(tensor))
    if tensor.layout is not torch.sparse_coo:
        count = tensor.numel()
        return count * itemsize if type(count) is int else 0
    with no_dispatch():
        count, dims = int(tensor._nnz()), int(tensor.sparse_dim())
    return count * (dims * torch.int64.itemsize + prod(map(int, tensor.shape[dims:])) * itemsize)


def _sparse_parts(tensor: Any) -> list[Any]:
    """The tensors that hold a sparse tensor's values and where they are."""
    with no_dispatch():
        plain = tensor.detach()
        return [getattr(plain, part)() for part in _SPARSE_PARTS[tensor.layout]]


def _type_flag(tensor: Any) -> int:
    """Parameter or subclass; ``isinstance`` would ask the tensor, whose class may answer with code of its own."""
    is_parameter = issubclass(type(tensor), Parameter) or "_is_param" in object.__getattribute__(tensor, "__dict__")
    return PARAMETER if is_parameter else SUBCLASS

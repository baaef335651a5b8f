"""Which tensors and storages have been seen, told apart by weak reference: nothing here keeps one alive.

``id()`` is reused at once after a free. Every tensor and storage that is seen gets a weak reference whose callback
puts it on the list of the dead; the list is worked off before ids are looked up, so a key that is found belongs to a
live object. (A storage's Python object lives as long as the storage itself, so its death is the storage's.)

What is known of each is a plain tuple of a fixed order (:data:`Seen`, :data:`SeenStorage`): one is made for every
tensor of the program, and a plain tuple costs a fifth of a named one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils._mode_utils import no_dispatch

from gradscope.recorder.capabilities import is_copied_on_write
from gradscope.recorder.tape import Tape
from gradscope.recorder.version_counters import shares_version
from gradscope.recording.rows import Field, TensorFlag
from gradscope.recording.tables import NONE

Seen = tuple[int, int, int, int, bool, int, "ref[Any]"]
"""A live tensor, as of the last op that touched it: row, storage, bytes, node, requires_grad, layout, reference."""

SeenStorage = tuple[int, int, "ref[Any] | None", "ref[Any]"]
"""A live storage: row, row of the first tensor seen on it (or NONE), reference to that, its own reference."""

_REQUIRES_GRAD = int(TensorFlag.REQUIRES_GRAD)
_EXTERNAL = int(TensorFlag.EXTERNAL)
_NO_STORAGE = int(TensorFlag.NO_STORAGE)
_VIEW = int(TensorFlag.VIEW)
_TYPED = int(TensorFlag.SUBCLASS | TensorFlag.PARAMETER)
_COMPRESSED_PARTS = {
    torch.sparse_csr: ("crow_indices", "col_indices"),
    torch.sparse_bsr: ("crow_indices", "col_indices"),
    torch.sparse_csc: ("ccol_indices", "row_indices"),
    torch.sparse_bsc: ("ccol_indices", "row_indices"),
}
_META = torch.device("meta")
_VERSION = int(Field.VERSION)


class Identity:
    """The live tensors and storages by ``id()``."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.tensors: dict[int, Seen] = {}
        self.storages: dict[int, SeenStorage] = {}
        self.dead: list[ref[Any]] = []
        self.leaves: dict[int, ref[Any]] = {}
        """Live tensors whose ``.grad`` a backward pass may set, by tensor row."""
        self._graves: dict[int, int] = {}
        """By the id of a weak reference: twice the key of what it points to, plus one for a storage."""
        self._layouts: dict[Any, tuple[int, int]] = {}
        self._plain_layouts: dict[Any, tuple[int, int]] = {}
        self._tensor_rows = tape.pending["tensors"]
        self._storage_rows = tape.pending["storages"]
        self._entomb = self.dead.append

    def bury(self) -> None:
        """Forget what has died since the last call; it was gone at the start of the op that comes now."""
        tape, dead, graves = self.tape, self.dead, self._graves
        while dead:
            grave = graves.pop(id(dead.pop()), None)
            if grave is None:
                continue  # an interrupt came while it was being entered
            if grave & 1:
                storage = self.storages.pop(grave >> 1, None)
                if storage is not None:
                    tape.storage_deaths += (storage[0], tape.op_count)
            else:
                seen = self.tensors.pop(grave >> 1, None)
                if seen is not None:
                    self.leaves.pop(seen[0], None)
                    tape.tensor_deaths += (seen[0], tape.op_count)

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
        is_plain = type(tensor) is Tensor
        if not is_plain:
            flags |= _type_flag(tensor)
        known = None
        try:
            storage = tensor.untyped_storage()
        except (RuntimeError, NotImplementedError):
            place = NONE
            flags |= _NO_STORAGE
        else:
            known = self.storages.get(id(storage))
            place = NONE if known is None else known[0]
        if is_plain and place == NONE and not flags & _NO_STORAGE:
            try:
                key = (tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
                found = self._plain_layouts.get(key)
            except (RuntimeError, TypeError):  # a nested tensor has no sizes, symbolic ones have no hash
                found = self.layout(tensor)
            layout, nbytes = found or self._plain_layouts.setdefault(key, self.layout(tensor))
        else:
            layout, nbytes = self.layout(tensor)
        version = 0
        try:
            version = tensor._version
        except RuntimeError:
            flags |= int(TensorFlag.INFERENCE if tensor.is_inference() else TensorFlag.NO_VERSION)
        reference = ref(tensor, self._entomb)
        if known is not None:
            if tensor._is_view():
                flags |= _VIEW
        elif not flags & _NO_STORAGE:
            place = self.add_storage(storage, tensor, op, flags, row, reference)
        # No call stands between the count and the row: an interrupt cannot come between them.
        tape.tensor_count = row + 1
        self._tensor_rows += (op, place, layout, node, flags, NONE)
        if version:
            tape.pending["changes"] += (op, row, _VERSION, 0, version)
        if known is not None:
            self._note_alias(tensor, row, id(storage), known, inputs, reference)
        requires_grad = bool(flags & _REQUIRES_GRAD)
        identity = id(tensor)
        self._graves[id(reference)] = identity * 2
        self.tensors[identity] = seen = (row, place, nbytes, node, requires_grad, layout, reference)
        if requires_grad and node == NONE:
            self.leaves[row] = reference
        return seen

    def add_storage(
        self, storage: Any, tensor: Any, op: int, flags: int, first: int, first_reference: ref[Any] | None
    ) -> int:
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
        reference = ref(storage, self._entomb)
        size = nbytes if type(nbytes) is int else 0
        tape.storage_count = row + 1
        self._storage_rows += (op, size, pointer, NONE, 1 if flags & _EXTERNAL else 0)
        key = id(storage)
        self._graves[id(reference)] = key * 2 + 1
        self.storages[key] = (row, first, first_reference, reference)
        return row

    def watch_grad(self, tensor: Any) -> None:
        """Look at the ``.grad`` of a tensor around backward passes: a leaf since now, or one that retains its grad."""
        seen = self.tensors[id(tensor)]
        self.leaves[seen[0]] = seen[6]

    def row_of(self, tensor: Any) -> int:
        """Row of a tensor that was seen, or NONE."""
        seen = self.tensors.get(id(tensor))
        return NONE if seen is None else seen[0]

    def storage_of(self, tensor: Any, op: int) -> int:
        """Row of the storage that a tensor is on now; the tensor itself is not entered."""
        try:
            storage = tensor.untyped_storage()
        except (RuntimeError, NotImplementedError):
            return NONE
        known = self.storages.get(id(storage))
        # A number that torch wrapped in a tensor is no memory of the program's.
        flags = 0 if tensor.dim() else _EXTERNAL
        if type(tensor) is not Tensor:
            flags |= _type_flag(tensor)
        if known is not None:
            return known[0]
        return self.add_storage(storage, tensor, op, flags, NONE, None)

    def bytes_of(self, tensor: Any) -> int:
        """Bytes of a tensor's elements."""
        if type(tensor) is Tensor and tensor.layout is torch.strided and not tensor.is_nested:
            nbytes: int = tensor.nbytes
            return nbytes
        return self.layout(tensor)[1]

    def layout(self, tensor: Any) -> tuple[int, int]:
        """Row of a tensor's layout, and the bytes of its elements."""
        try:
            key = (tensor.shape, tensor.stride(), tensor.dtype, tensor.device, type(tensor).__name__)
            known = self._layouts.get(key)
        except (RuntimeError, NotImplementedError, TypeError):
            key = None  # a layout without strides, or with symbolic ones
            known = None
        return known or self._new_layout(tensor, key)

    def _new_layout(self, tensor: Any, key: Any) -> tuple[int, int]:
        text = self.tape.text
        try:
            shape = _written(tensor.shape)
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
            text(type(tensor).__name__),
            text(str(tensor.layout).removeprefix("torch.")),
            nbytes,
        )
        key = row if key is None else key
        known: tuple[int, int] | None = self._layouts.get(key)
        if known is None:
            known = (len(self._layouts), nbytes)
            self.tape.pending["layouts"] += row
            self._layouts[key] = known
        return known

    def _note_alias(
        self, tensor: Any, row: int, key: int, known: SeenStorage, inputs: Sequence[Any], reference: ref[Any]
    ) -> None:
        """Keep what a tensor is an alias of: an input on the same storage, or else the first seen on it that lives."""
        for candidate in inputs:
            seen = self.tensors.get(id(candidate))
            if seen is not None and seen[1] == known[0]:
                base, other = seen[0], candidate
                break
        else:
            base, other = known[1], known[2]() if known[2] is not None else None
        if other is None:
            self.storages[key] = (known[0], row, reference, known[3])  # the next one is compared with one that lives
        if base != NONE:
            shares = NONE if other is None else shares_version(tensor, other)
            offset = tensor.storage_offset()
            self.tape.pending["aliases"] += (row, base, offset if type(offset) is int else 0, shares)


def _written(sizes: Sequence[Any]) -> str:
    """Sizes as a tuple is written, a symbol by its name."""
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"


def _bytes_of_elements(tensor: Any) -> int:
    """What a tensor's elements take up: of a sparse one, those that are there, with their indices.

    0 where the sizes are symbols: to make a number of one would bind the program's dimension to its example.
    """
    itemsize: int = tensor.element_size()
    if tensor.layout in _COMPRESSED_PARTS:
        with no_dispatch():
            plain = tensor.detach()
            parts = [getattr(plain, part)() for part in ("values", *_COMPRESSED_PARTS[tensor.layout])]
            return sum(part.numel() * part.element_size() for part in parts)
    if tensor.layout is not torch.sparse_coo:
        count = tensor.numel()
        return count * itemsize if type(count) is int else 0
    with no_dispatch():
        count, dims = int(tensor._nnz()), int(tensor.sparse_dim())
    return count * (dims * torch.int64.itemsize + prod(map(int, tensor.shape[dims:])) * itemsize)


def _type_flag(tensor: Any) -> int:
    """Parameter or subclass; ``isinstance`` would ask the tensor, whose class may answer with code of its own."""
    is_parameter = issubclass(type(tensor), Parameter) or "_is_param" in object.__getattribute__(tensor, "__dict__")
    return int(TensorFlag.PARAMETER if is_parameter else TensorFlag.SUBCLASS)

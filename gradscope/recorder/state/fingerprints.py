"""Fingerprints of what ops and backward passes give (``gradscope run --fingerprints``): by them two runs are compared.

A fingerprint is a digest of all bits, in which each element's place counts, the 2-norm, and how many elements are NaN
or infinite. It is computed where the tensor is; what a device computes is read in batches.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch._C import DisableTorchFunction

from gradscope.recorder.state.graph_values import nodes_behind
from gradscope.recorder.state.identity import Identity
from gradscope.recorder.state.tensors_in import PLAIN
from gradscope.recorder.tape import Tape
from gradscope.recorder.torch_internals.capabilities import dispatch_modes, is_observed_otherwise
from gradscope.recording.rows import FingerprintKind

_RESULT, _INPUT, _GRADIENT, _NODE = map(int, FingerprintKind)
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_FLOATING = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64))
_DEVICES = frozenset(("cpu", "cuda"))
_CHUNK, _COLUMNS, _DIRECTLY = 1 << 20, 64, 1 << 11
"""Numbers that are weighed at once; how they are put into a matrix, where they are more than some."""
_STEP, _BETWEEN = 0x9E3779B97F4A7C15 - (1 << 64), 1_000_003
"""Multipliers: of a place, and from one sum to the next."""
_EMPTY = "empty"
"""In the names of functions whose results hold no values yet."""
_VIEWS = (
    "Add",
    "View",
    "UnsafeView",
    "ReshapeAlias",
    "Transpose",
    "TBackward",
    "Permute",
    "Unsqueeze",
    "Squeeze",
    "Alias",
)
"""How the names of nodes begin that give what they are given, at most in another shape."""
_UNREAD = 512
"""Fingerprints on devices after which they are read."""

_Key = tuple[int, int, int]
"""Op, kind, and the row of the tensor or node."""
_Fingerprint = tuple[int, int, int]
"""Digest, the bits of the norm as a double, and the number of elements that are not finite."""


class Fingerprints:
    """Writes down fingerprints.

    Args:
        tape: Where rows go.
        identity: The tensors that were seen.
    """

    def __init__(self, tape: Tape, identity: Identity) -> None:
        self._tape = tape
        self._identity = identity
        self._known: set[int] = set()
        """Tensors that have a fingerprint."""
        self._weights: dict[torch.device, Tensor] = {}
        self._unread: list[tuple[_Key, Tensor]] = []

    def note_op(self, op: int, function: str, inputs: Iterable[Any], results: Iterable[Any], *, mutates: bool) -> None:
        """Note what an op gave or changed, and of what it was given what no op was seen to give.

        Args:
            op: The op.
            function: Its name.
            inputs: The tensors that it was given.
            results: Those that it gave or may have changed.
            mutates: It may have changed some: else a view shows what its base has.
        """
        if _EMPTY in function:
            return  # whatever the memory held
        row_of = self._identity.row_of
        given = {row_of(tensor): tensor for tensor in results if not _is_plain_view(tensor) or mutates}
        taken = {row_of(tensor): tensor for tensor in inputs if not _is_plain_view(tensor)}
        self.note_all(op, _INPUT, [(row, taken[row]) for row in taken if row not in self._known and row not in given])
        self.note_all(op, _RESULT, given.items())
        self._known.update(given, taken)

    def in_pass(self, roots: list[Any], row_of: Callable[[Any], int]) -> NodeFingerprints:
        """Look at each node of a pass that is about to begin.

        Args:
            roots: The tensors that it starts from.
            row_of: Gives the row of a node, or NONE.
        """
        nodes = [root.grad_fn for root in roots if type(root) in PLAIN and root.grad_fn is not None]
        return NodeFingerprints(self, [] if _is_elsewhere() else nodes, row_of)

    def settle(self) -> None:
        """Read what was left on a device."""
        unread, self._unread = self._unread, []
        for key, computed in unread:
            self._write(key, *computed.tolist())

    def keep(self, key: _Key, computed: Tensor | _Fingerprint | None) -> None:
        """Write a fingerprint, or read it later."""
        if isinstance(computed, Tensor):
            self._unread.append((key, computed))
            if len(self._unread) >= _UNREAD:
                self.settle()
        elif computed is not None:
            self._write(key, *computed)

    def computed(self, tensor: Any) -> Tensor | _Fingerprint | None:
        """The fingerprint of a tensor: three numbers on the device, or their values; None where it has none."""
        if type(tensor) not in PLAIN or tensor.layout is not torch.strided or tensor.device.type not in _DEVICES:
            return None
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor.resolve_conj())
        size = tensor.element_size()
        if size not in _BITS or not tensor.numel():
            return None
        flat = tensor.resolve_neg().contiguous().view(-1)
        digest, is_number = self._digest(flat), flat.dtype in _FLOATING
        if not flat.is_cpu:
            norm = torch.linalg.vector_norm(flat, dtype=torch.float64) if is_number else digest.double()
            bad = (~torch.isfinite(flat)).sum() if is_number else torch.zeros_like(digest)
            return torch.stack([digest, norm.view(torch.int64), bad])
        norm = _norm(flat) if is_number else 0.0
        is_finite = norm - norm == 0
        (bits,) = struct.unpack("<q", struct.pack("<d", norm))
        return int(digest.item()), bits, 0 if is_finite else int((~torch.isfinite(flat)).sum().item())

    def note_all(self, op: int, kind: int, tensors: Iterable[tuple[int, Any]]) -> None:
        """Note tensors of some rows."""
        if _is_elsewhere():
            return
        with torch.no_grad(), DisableTorchFunction():
            for row, tensor in tensors:
                if row >= 0:
                    self.keep((op, kind, row), self.computed(tensor))

    def _digest(self, flat: Tensor) -> Tensor:
        """Of the bits of a dense tensor of one dimension."""
        size = flat.element_size()
        if flat.numel() * size % 8:
            numbers = flat.view(_BITS[size]).long()
        else:
            numbers = (flat.clone() if flat.storage_offset() * size % 8 else flat).view(torch.int64)
        digest = self._weighed(numbers[:_CHUNK])
        for start in range(_CHUNK, numbers.numel(), _CHUNK):
            digest = digest * _BETWEEN + self._weighed(numbers[start : start + _CHUNK])
        return digest

    def _weighed(self, numbers: Tensor) -> Tensor:
        """A sum in which each place counts; of many numbers those of the rows and the columns of a matrix of them."""
        weights = self._weights.get(numbers.device)
        if weights is None:
            places = torch.arange(1, _CHUNK // _COLUMNS + _COLUMNS + 1, dtype=torch.int64, device=numbers.device)
            weights = self._weights[numbers.device] = places * _STEP
        count = numbers.numel()
        if count <= _DIRECTLY:
            return _dot(numbers, weights[:count])
        rows, left = divmod(count, _COLUMNS)
        matrix, rest = numbers[: rows * _COLUMNS].view(rows, _COLUMNS), numbers[rows * _COLUMNS :]
        by_row = _dot(matrix.sum(1), weights[:rows])
        by_column = _dot(matrix.sum(0), weights[:_COLUMNS])
        return by_row * _BETWEEN + by_column + _dot(rest, weights[:left])

    def _write(self, key: _Key, digest: int, norm: int, bad: int) -> None:
        self._tape.pending["fingerprints"] += (*key, digest, norm, bad)


class NodeFingerprints:
    """Looks at what each node of a pass gives, by hooks that are taken off when the pass is over.

    Args:
        fingerprints: Where they go.
        roots: The ``grad_fn`` of each root.
        row_of: Gives the row of a node, or NONE.
    """

    def __init__(self, fingerprints: Fingerprints, roots: list[Any], row_of: Callable[[Any], int]) -> None:
        self._fingerprints = fingerprints
        self._found: list[tuple[int, Tensor | _Fingerprint | None]] = []
        self._handles = [
            node.register_hook(self._hook(row))
            for node in nodes_behind(roots)
            if not hasattr(node, "variable") and not node.name().startswith(_VIEWS) and (row := row_of(node)) >= 0
        ]

    def _hook(self, row: int) -> Callable[[Any, Any], None]:
        def look(given_back: Any, _: Any) -> None:
            with torch.no_grad(), DisableTorchFunction():
                self._found += [(row, self._fingerprints.computed(tensor)) for tensor in given_back]

        return look

    def finish(self, op: int, gradients: Iterable[tuple[int, Any]]) -> None:
        """The pass, an op, is over or has raised; it gave gradients to the tensors of some rows."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for row, computed in self._found:
            self._fingerprints.keep((op, _NODE, row), computed)
        self._found.clear()
        self._fingerprints.note_all(op, _GRADIENT, gradients)


def _norm(flat: Tensor) -> float:
    """The 2-norm of a tensor on the CPU, the quicker way where that gives a number."""
    if flat.dtype is torch.float32:
        squared: float = torch.dot(flat, flat).item()
        if 0 < squared < math.inf:
            return math.sqrt(squared)
    return float(torch.linalg.vector_norm(flat, dtype=torch.float64).item())


def _is_plain_view(tensor: Any) -> bool:
    return type(tensor) in PLAIN and tensor._is_view()


def _dot(numbers: Tensor, weights: Tensor) -> Tensor:
    return torch.dot(numbers, weights) if numbers.is_cpu else (numbers * weights).sum()


def _is_elsewhere() -> bool:
    """Whether a mode of the program's would see what is computed."""
    return bool(dispatch_modes()) or is_observed_otherwise()

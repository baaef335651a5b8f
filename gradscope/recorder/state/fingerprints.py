"""Fingerprints of what ops and backward passes give (``gradscope run --fingerprints``): by them two runs are compared.

A fingerprint is a digest of all bits, in which each element's place counts, the 2-norm, and how many elements are NaN
or infinite. It is computed where the tensor is; what a device computes is read in batches.

The digest reads a tensor as numbers of 64 bits. Up to :data:`_DIRECTLY` of them are mixed, weighed by their places and
added up; where there are more, sums are, each of :data:`_ROWS` numbers that lie far from one another. So tensors that
differ in one number, in any bit, have different digests, but for a chance of about 1 in 2^64 (none at all where each is
weighed by itself). So have those that differ in several, unless numbers of one sum changed places or their changes
cancel out. The numbers of a sum lie a fifteenth of the tensor apart, less a bit: no rows of a batch do, and as fifteen
is odd, another sign of a whole column is not lost in the highest bit of a sum.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import nullcontext
from functools import reduce
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._C import DisableTorchFunction

from gradscope.recorder.state.graph_nodes import GraphNodes
from gradscope.recorder.state.graph_values import nodes_behind
from gradscope.recorder.state.identity import Identity
from gradscope.recorder.state.tensors_in import PLAIN
from gradscope.recorder.tape import Tape
from gradscope.recorder.torch_internals.capabilities import dispatch_modes, is_observed_otherwise, is_wrapped
from gradscope.recording.rows import FingerprintKind

_RESULT, _INPUT, _GRADIENT, _NODE = map(int, FingerprintKind)
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_NUMBERS = {dtype: _BITS[dtype.itemsize] for dtype in (*_FLOATING, *_WHOLE)}
"""As what the bits of each kind of number are read."""
_STRIDED = torch.strided
_CHUNK, _ROWS, _DIRECTLY = 1 << 20, 15, 1 << 12
"""Numbers that are read at once; how many are added to one sum, and the most that are weighed each by itself."""
_STEP, _BETWEEN, _HALF = 0x9E3779B97F4A7C15 - (1 << 64), 1_000_003, 29
"""Multipliers, of a place and from one chunk to the next; how far high bits are moved down: where only the signs of two
numbers differ, their highest bits would be lost in a sum."""
_HALF_ON_CPU = torch.tensor(_HALF)
_ONES, _SIGN = (1 << 64) - 1, 1 << 63
_EMPTY = "empty"
"""In the names of functions whose results hold no values yet."""
_PASSING_ON = tuple(
    f"{name}Backward"
    for name in (
        *("View", "UnsafeView", "ReshapeAlias", "Transpose", "T", "Permute", "Unsqueeze", "Squeeze", "Alias", "Clone"),
        *("Select", "Slice", "Split", "Unbind"),
    )
)
"""How the names of nodes begin that give what they are given, at most in another shape or among zeros."""
_SMALL, _TOGETHER, _KEPT_TOGETHER = 1 << 11, 6, 16
"""Elements of tensors that are computed together, how many there must be of them, and of how many such sets the weights
are kept."""
_flattened: Callable[[list[Tensor]], Tensor] = torch._utils._flatten_dense_tensors
_UNREAD = 512
"""Fingerprints on devices after which they are read."""

_AccumulateGrad: Any = type(torch.ones(1, requires_grad=True).view(1).grad_fn.next_functions[0][0])  # type: ignore[union-attr]
_NOTHING = nullcontext()
_looked_at: dict[type, bool] = {}
"""Whether nodes of a type give something new; not those that end at a leaf."""

_INTEGER, _DOUBLE = struct.Struct("<q"), struct.Struct("<d")

_Digest = TypeVar("_Digest", int, Tensor)
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
        """Tensors that have a fingerprint, or show what one has."""
        self._shown: set[int] = set()
        """Storages of which all that they hold has one."""
        self._weights: dict[torch.device, Tensor] = {}
        self._first_weights: dict[int, Tensor] = {}
        """On the CPU those of the first places, by how many."""
        self._weights_together: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._unread: list[tuple[_Key, Tensor]] = []

    def note_op(
        self, op: int, function: str, inputs: Iterable[Any], results: Iterable[Any], written: Iterable[Any]
    ) -> None:
        """Note what an op gave or changed, and of what it was given what no op was seen to give.

        Args:
            op: The op.
            function: Its name.
            inputs: The tensors that it was given.
            results: Those that it gave; a view shows what has been noted with its base.
            written: Those that it may have changed.
        """
        if _EMPTY in function:
            return  # whatever the memory held
        known = self._known
        changed = self._by_row(written)
        given = changed | {row: one for row, one in self._by_row(results).items() if not self._is_shown(one)}
        taken = {row: one for row, one in self._by_row(inputs).items() if row not in known and row not in given}
        known.update(given, taken)
        if taken:
            self.note_all(op, _INPUT, [(row, one) for row, one in taken.items() if not self._is_shown(one)])
        self.note_all(op, _RESULT, given.items())

    def _by_row(self, tensors: Iterable[Any]) -> dict[int, Any]:
        row_of = self._identity.row_of
        return {row: tensor for tensor in tensors if (row := row_of(tensor)) >= 0}

    def _is_shown(self, tensor: Any) -> bool:
        """Whether it is a view of what was noted; what is noted now is noted from here on."""
        storage = self._identity.tensors[id(tensor)].storage
        if type(tensor) not in PLAIN or storage < 0:
            return False
        is_view = tensor._is_view()
        if is_view and storage in self._shown:
            return True
        if not is_view or tensor.nbytes == tensor.untyped_storage().nbytes():
            self._shown.add(storage)
        return False

    def in_pass(self, roots: list[Any], graph: GraphNodes) -> NodeFingerprints:
        """Look at the nodes of a pass that is about to begin.

        Args:
            roots: The tensors that it starts from.
            graph: The nodes that were seen.
        """
        nodes = [root.grad_fn for root in roots if type(root) in PLAIN and root.grad_fn is not None]
        return NodeFingerprints(self, [] if _is_elsewhere() else nodes, graph)

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
        if type(tensor) not in PLAIN or tensor.layout is not _STRIDED or not (tensor.is_cpu or tensor.is_cuda):
            return None
        dtype = tensor.dtype
        if dtype.is_complex:
            tensor = torch.view_as_real(tensor.resolve_conj())
            dtype = tensor.dtype
        if dtype not in _NUMBERS or tensor.is_nested or not tensor.numel():
            return None
        if tensor.is_neg():
            tensor = tensor.resolve_neg()
        flat = tensor if tensor.is_contiguous() else tensor.contiguous()
        if flat.dim() != 1:
            flat = flat.view(-1)
        is_number = dtype.is_floating_point
        if not flat.is_cpu:
            return _on_device(flat, self._digests(flat, _NUMBERS[dtype]), is_number)
        norm = _norm(flat) if is_number else 0.0  # read in one go, so that the digest finds all of it near
        digests = self._digests(flat, _NUMBERS[dtype])
        is_finite = norm - norm == 0
        number = int(digests[0].item())
        if len(digests) > 1:
            number = (reduce(_chained, [int(one.item()) for one in digests]) + _SIGN & _ONES) - _SIGN
        (bits,) = _INTEGER.unpack(_DOUBLE.pack(norm))
        return number, bits, 0 if is_finite else int((~torch.isfinite(flat)).sum().item())

    def note_all(self, op: int, kind: int, tensors: Collection[tuple[int, Any]]) -> None:
        """Note tensors of some rows."""
        if not tensors or _is_elsewhere():
            return
        with DisableTorchFunction(), _without_graph():
            together = self._computed_together([tensor for row, tensor in tensors if row >= 0 and _is_small(tensor)])
            for row, tensor in tensors:
                if row >= 0:
                    known = together.get(id(tensor))
                    self.keep((op, kind, row), self.computed(tensor) if known is None else known)

    def _computed_together(self, tensors: list[Tensor]) -> dict[int, _Fingerprint]:
        """Those of many small tensors by their ``id()``, with a few calls for all; not of one that ends in an infinity.

        Where the sum of all but one before it is taken away, what is left is the sum of its own: exactly, in integers.
        """
        if len(tensors) < _TOGETHER:
            return {}
        numbers = _flattened(tensors).view(torch.int64)
        weights, ends = self._weights_of([tensor.numel() >> 1 for tensor in tensors], numbers)
        sums = (numbers >> _HALF_ON_CPU).bitwise_xor_(numbers).mul_(weights).cumsum_(0)
        found: dict[int, _Fingerprint] = {}
        before = 0
        for tensor, end in zip(tensors, sums[ends].tolist(), strict=True):
            norm = _norm(tensor.view(-1))
            if norm - norm == 0:
                (bits,) = _INTEGER.unpack(_DOUBLE.pack(norm))
                found[id(tensor)] = ((end - before + _SIGN & _ONES) - _SIGN, bits, 0)
            before = end
        return found

    def _weights_of(self, counts: list[int], numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The weights of several tensors behind each other, and the place of the last number of each."""
        key = tuple(counts)
        known = self._weights_together.get(key)
        if known is None:
            ends = torch.tensor(counts).cumsum_(0).sub_(1)
            known = torch.cat([self._first(count, numbers) for count in counts]), ends
            if len(self._weights_together) >= _KEPT_TOGETHER:
                self._weights_together.clear()
            self._weights_together[key] = known
        return known

    def _digests(self, flat: Tensor, bits: torch.dtype) -> list[Tensor]:
        """Of the bits of each chunk of a dense tensor of one dimension."""
        size = bits.itemsize
        if flat.numel() * size & 7:
            numbers = flat.view(bits).long()
        else:
            numbers = (flat.clone() if flat.storage_offset() * size & 7 else flat).view(torch.int64)
        count = numbers.numel()
        if count <= _CHUNK:
            return [self._weighed(numbers, count)]
        return [self._weighed(chunk, chunk.numel()) for chunk in torch.split(numbers, _CHUNK)]

    def _weighed(self, numbers: Tensor, count: int) -> Tensor:
        """The sum of the numbers, or of sums of them, each mixed and weighed by its place."""
        if count > _DIRECTLY:
            step = (count - 1) // _ROWS  # never a whole part of a batch: the rows overlap a bit
            count -= step * (_ROWS - 1)
            numbers = numbers.as_strided((_ROWS, count), (step, 1)).sum(0)
        weights = self._first(count, numbers)
        # (shifted by a tensor: a number would be made one first)
        half = _HALF_ON_CPU if numbers.is_cpu else _HALF
        mixed = (numbers >> half).bitwise_xor_(numbers)
        return _dot(mixed, weights)

    def _first(self, count: int, numbers: Tensor) -> Tensor:
        """The weights of the first places, where some numbers are."""
        weights = self._first_weights.get(count) if numbers.is_cpu else None
        if weights is None:
            weights = self._all_weights(numbers.device)[:count]
            if numbers.is_cpu:
                self._first_weights[count] = weights
        return weights

    def _all_weights(self, device: torch.device) -> Tensor:
        """An odd number for each place: an even one would lose the highest bit."""
        weights = self._weights.get(device)
        if weights is None:
            places = torch.arange(1, _CHUNK // _ROWS + 2 * _ROWS, dtype=torch.int64, device=device)
            weights = self._weights[device] = (2 * places + 1) * _STEP
        return weights

    def _write(self, key: _Key, digest: int, norm: int, bad: int) -> None:
        self._tape.pending["fingerprints"] += (*key, digest, norm, bad)


class NodeFingerprints:
    """Looks at what the nodes of a pass give, by hooks that are taken off when the pass is over.

    Of a call that made several nodes those are left out that give only to others of the same call: what comes out of
    the call is looked at.

    Args:
        fingerprints: Where they go.
        roots: The ``grad_fn`` of each root.
        graph: The nodes that were seen.
    """

    def __init__(self, fingerprints: Fingerprints, roots: list[Any], graph: GraphNodes) -> None:
        self._fingerprints = fingerprints
        self._found: list[tuple[int, Tensor | _Fingerprint | None]] = []
        rows = {node: row for node in nodes_behind(roots) if (row := graph.row_of(node)) >= 0}
        ops = {node: graph.op_of(row) for node, row in rows.items()}
        looked_at = [node for node in rows if _is_looked_at(node)]
        of_op = Counter(ops[node] for node in looked_at)
        self._handles = [
            node.register_hook(self._hook(rows[node], _left_to_leaves(node)))
            for node in looked_at
            if of_op[ops[node]] == 1 or not _is_inside(node, ops)
        ]

    def _hook(self, row: int, left: frozenset[int]) -> Callable[[Any, Any], None]:
        computed, found = self._fingerprints.computed, self._found

        def look(given_back: Any, given: Any) -> None:
            with DisableTorchFunction(), _without_graph():
                passed_on = {_place(tensor) for tensor in given}
                for position, tensor in enumerate(given_back):
                    if position not in left and (place := _place(tensor)) is not None and place not in passed_on:
                        found.append((row, computed(tensor)))

        return look

    def finish(self, op: int, gradients: Collection[tuple[int, Any]]) -> None:
        """The pass, an op, is over or has raised; it gave gradients to the tensors of some rows."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for row, computed in self._found:
            self._fingerprints.keep((op, _NODE, row), computed)
        self._found.clear()
        self._fingerprints.note_all(op, _GRADIENT, gradients)


def _is_small(tensor: Any) -> bool:
    """Whether it is one of those that are computed together: few numbers of 32 bits, in pairs."""
    return (
        type(tensor) in PLAIN
        and tensor.is_cpu
        and tensor.dtype is torch.float32
        and tensor.layout is _STRIDED
        and 0 < tensor.numel() <= _SMALL
        and not tensor.numel() & 1
        and tensor.is_contiguous()
        and not tensor.is_neg()
        and not tensor.is_nested
    )


def _is_looked_at(node: Any) -> bool:
    """Whether a node gives something new, to other nodes."""
    known = _looked_at.get(type(node))
    if known is None:
        known = _looked_at[type(node)] = not hasattr(node, "variable") and not node.name().startswith(_PASSING_ON)
    return known


def _is_inside(node: Any, ops: Mapping[Any, int]) -> bool:
    """Whether what a node gives goes only to nodes of its own call, some of which are looked at."""
    own, todo, leads_on = ops[node], [node], False
    while todo:
        for following, _ in todo.pop().next_functions:
            if following is None or type(following) is _AccumulateGrad:
                continue
            if ops.get(following) != own:
                return False
            if _is_looked_at(following):
                leads_on = True
            else:
                todo.append(following)
    return leads_on


def _left_to_leaves(node: Any) -> frozenset[int]:
    """The positions of what a node gives to leaves, beside others: those have it as their gradient when it is over."""
    leads = [following is not None and type(following) is _AccumulateGrad for following, _ in node.next_functions]
    is_all = all(lead or following is None for lead, (following, _) in zip(leads, node.next_functions, strict=True))
    return frozenset() if is_all else frozenset(at for at, lead in enumerate(leads) if lead)


def _without_graph() -> Any:
    """As ``no_grad``, which a pass without ``create_graph`` is in already."""
    return torch.no_grad() if torch.is_grad_enabled() else _NOTHING


def _norm(flat: Tensor) -> float:
    """The 2-norm of a tensor on the CPU, the quicker way where that gives a number."""
    if flat.dtype is torch.float32:
        squared: float = torch.dot(flat, flat).item()
        if 0 < squared < math.inf:
            return math.sqrt(squared)
    return float(torch.linalg.vector_norm(flat, dtype=torch.float64).item())


def _place(tensor: Any) -> tuple[int, int] | None:
    """Where the elements of a dense tensor begin and how many there are; None for other values."""
    if type(tensor) not in PLAIN or tensor.layout is not torch.strided or is_wrapped(tensor):
        return None
    return tensor.data_ptr(), tensor.numel()


def _dot(numbers: Tensor, weights: Tensor) -> Tensor:
    return torch.dot(numbers, weights) if numbers.is_cpu else (numbers * weights).sum()  # CUDA has no dot of integers


def _on_device(flat: Tensor, digests: list[Tensor], is_number: bool) -> Tensor:
    """The three numbers, left where they are computed."""
    digest = reduce(_chained, digests)
    norm = torch.linalg.vector_norm(flat, dtype=torch.float64) if is_number else digest.double()
    bad = (~torch.isfinite(flat)).sum() if is_number else torch.zeros_like(digest)
    return torch.stack([digest, norm.view(torch.int64), bad])


def _chained(before: _Digest, digest: _Digest) -> _Digest:
    return before * _BETWEEN + digest


def _is_elsewhere() -> bool:
    """Whether a mode of the program's would see what is computed."""
    return bool(dispatch_modes()) or is_observed_otherwise()

"""Saved tensors that a program's pack and unpack functions mix up: what one of them put away is another one's by then.

The functions run in the middle of a call or of a pass, where no mode sees them. So what they give is taken along: which
tensor it stands for, and as what it was put away. Two saved tensors are mixed up if both are given the same memory
back, unwritten in between; if a later one wrote the memory in which an earlier one waits; or if they were put away
under the same key, and what comes back for both is the same. Only a program's own functions are looked at.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from functools import wraps
from types import CodeType, FrameType, SimpleNamespace
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor
from torch._C import DisableTorchFunction
from torch.compiler import is_dynamo_compiling
from torch.multiprocessing.reductions import StorageWeakRef

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.hooks import code_of
from gradscope.recorder.patches.noting import note
from gradscope.recorder.places.code_owners import Owner
from gradscope.recorder.state.tensors_in import PLAIN, tensors_in, version_of
from gradscope.recorder.tape import Tape
from gradscope.recording.rows import EventKind, Span
from gradscope.recording.tables import NONE

_PACKED = int(EventKind.PACKED)
_KNOWN = 1024
"""Tensors that came back, or wait, that are known at a time."""
_SAMPLES = 32
"""Tensors of which values are kept until they come back."""
_VALUES = 512
"""Values that are kept of each, about."""
_OFF = 0.3
"""How far a tensor may be off that came back, beside its size: four bits with a scale, meant to save memory, are nearer
(some 0.1 of what is spread like noise)."""
_LOOKS = 16
"""Tensors that came back for one key whose values are looked at."""


class _Memory(NamedTuple):
    """A tensor's memory: which, and which part of it."""

    storage: StorageWeakRef
    """It keeps the number of the storage from being given to another one."""
    part: tuple[Any, ...]

    def is_same(self, other: _Memory) -> bool:
        return self.storage.cdata == other.storage.cdata and self.part == other.part


class _Seen(NamedTuple):
    """Memory at one time, and the saved tensor that it was given for."""

    memory: _Memory
    version: int
    source: _Memory
    source_version: int

    def is_of_same(self, other: _Seen | _Packed) -> bool:
        """Whether both were given for one tensor."""
        return self.source_version == other.source_version and self.source.is_same(other.source)


class _Packed:
    """What a pack function gave for a saved tensor."""

    __slots__ = (
        "__weakref__",
        "is_collided",
        "key",
        "sample",
        "source",
        "source_version",
        "storages",
        "tensors",
        "value",
    )

    def __init__(self, value: Any, source: _Memory, source_version: int) -> None:
        self.value = value
        self.source = source
        self.source_version = source_version
        self.tensors: list[tuple[ref[Tensor], int]] = []
        self.key: Any = None
        self.is_collided = False
        self.sample: Tensor | None = None
        """Some of the values that were put away, of the first few."""
        self.storages: list[StorageWeakRef] = []
        """Of the tensors in it."""


class PackRuns:
    """What the pairs of functions did that one line puts in force."""

    def __init__(self, number: int, span: int, place: int, thread: int, function: str) -> None:
        self.number = number
        self.span = span
        self.place = place
        self.thread = thread
        self.function = function
        self.packed = 0
        self.mixed_up = 0
        self._given: dict[tuple[int, Any], _Seen] = {}
        """What came back, by its memory."""
        self._waits: dict[int, tuple[ref[Tensor], _Packed]] = {}
        """The tensors in which something was put away last, by ``id``."""
        self._keys: dict[Any, ref[_Packed]] = {}
        self._looks: dict[Any, list[tuple[_Packed, Tensor]]] = {}
        self._sampled = 0
        self._compared: list[Tensor] = []
        """Of each that was sampled and came back: how far off it was, beside its size, and whether it had become
        infinite or NaN."""

    def pack(self, packed: _Packed) -> None:
        """A pack function has given something."""
        self.packed += 1
        for one in tensors_in(packed.value):
            memory = _memory(one)
            if memory is not None and memory.storage.cdata != packed.source.storage.cdata:
                packed.tensors.append((ref(one), version_of(one)))
                packed.storages.append(memory.storage)
                _bound(self._waits)[id(one)] = ref(one), _without_value(packed)
        if not packed.tensors and _is_key(packed.value):
            packed.key = packed.value
            other = self._keys[packed.key]() if packed.key in self._keys else None
            if other is not None and not _is_same(other, packed):
                other.is_collided = packed.is_collided = True
            _bound(self._keys)[packed.key] = ref(packed)

    def unpack(self, packed: _Packed, result: Any) -> None:
        """An unpack function gave a tensor back."""
        memory = _memory(result)
        if memory is None or memory.storage.cdata == packed.source.storage.cdata:
            return  # (the tensor itself, which may have been written since: that is nothing that packing does)
        seen = _Seen(memory, version_of(result), packed.source, packed.source_version)
        key = memory.storage.cdata, memory.part
        before = self._given.get(key)
        _bound(self._given)[key] = seen
        is_given_twice = before is not None and before.version == seen.version and not before.is_of_same(packed)
        # (what unpack fills anew for each is no place where anything waited: ``scratch.data.copy_(…)`` has no version)
        was_put_there = packed.is_collided or any(one.cdata == memory.storage.cdata for one in packed.storages)
        if (is_given_twice and was_put_there) or self._is_overwritten(packed):
            self.mixed_up += 1
        elif packed.is_collided and len(looks := self._looks.setdefault(packed.key, [])) < _LOOKS:
            figures = _figures(result)
            if figures is not None:
                looks.append((_without_value(packed), figures))

    def _is_overwritten(self, packed: _Packed) -> bool:
        """Whether another saved tensor was put into the memory in which one waits, and wrote it."""
        for held, version in packed.tensors:
            tensor = held()
            known = self._waits.get(id(tensor))
            last = known[1] if known is not None and known[0]() is tensor else None
            if version_of(tensor) != version and last is not None and not _is_same(last, packed):
                return True
        return False

    def sample(self, tensor: Tensor) -> Tensor | None:
        """Some values of what is about to be put away, if it is one of the first few."""
        if self._sampled >= _SAMPLES:
            return None
        self._sampled += 1
        return _sampled(tensor)

    def compare(self, packed: _Packed, sample: Tensor, result: Any) -> None:
        """Look at how far what came back is from what was put away, unless it is that itself, which may be written."""
        memory = _memory(result)
        is_itself = memory is None or memory.storage.cdata == packed.source.storage.cdata
        back = _sampled(result) if not is_itself else None
        if back is not None and back.shape == sample.shape and back.device == sample.device:
            with DisableTorchFunction(), torch.no_grad():
                off = (back - sample).norm() / sample.norm()
                self._compared.append(torch.stack([off, (sample.isfinite() & ~back.isfinite()).any().double()]))

    def losses(self) -> dict[str, Any]:
        """What came back with other values, when the recording ends."""
        found = [(off, bool(is_bad)) for off, is_bad in (one.tolist() for one in self._compared)]
        off = [one for one, is_bad in found if is_bad or one >= _OFF]
        if not off:
            return {}
        finite = [one for one in off if math.isfinite(one)]
        bad = sum(is_bad for _, is_bad in found)
        return {"compared": len(found), "lost": len(off), "bad": bad, "off": max(finite, default=0.0)}

    def total(self) -> int:
        """How many were mixed up, when the recording ends."""
        return self.mixed_up + sum(_alike(looks) for looks in self._looks.values())


def _bound(known: dict[Any, Any]) -> dict[Any, Any]:
    if len(known) >= _KNOWN:
        del known[next(iter(known))]
    return known


def _is_same(one: _Packed, other: _Packed) -> bool:
    return one.source_version == other.source_version and one.source.is_same(other.source)


def _without_value(packed: _Packed) -> _Packed:
    """What is known of a saved tensor, which may go away."""
    return _Packed(None, packed.source, packed.source_version)


def _is_key(value: Any) -> bool:
    """Whether a value is one by which something is found, of types that have a hash of Python's own."""
    if type(value) is tuple or type(value) is torch.Size:
        return all(_is_key(one) for one in value)
    return type(value) in (int, str, torch.dtype, torch.device)


def _alike(looks: list[tuple[_Packed, Tensor]]) -> int:
    """How many came back with the values of another one before, and were put away as another tensor."""
    figures = [one.tolist() for _, one in looks]
    return sum(
        any(figures[at] == figures[to] and not _is_same(looks[at][0], looks[to][0]) for to in range(at))
        for at in range(len(looks))
        if any(figures[at])
    )


def _memory(tensor: Any) -> _Memory | None:
    """Where a tensor is; None for one that has no memory of its own, or that others stand for."""
    if type(tensor) not in PLAIN or torch._C._functorch.peek_interpreter_stack() is not None:
        return None
    with DisableTorchFunction():
        if tensor.layout is not torch.strided or tensor.is_meta or tensor.numel() < 2:
            return None
        return _Memory(
            StorageWeakRef(tensor.untyped_storage()),  # type: ignore[no-untyped-call]
            (tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype),
        )


def _figures(tensor: Tensor) -> Tensor | None:
    """Two numbers by which values are told apart, on their device; None where somebody would see them computed."""
    if is_dynamo_compiling() or torch._C._len_torch_dispatch_stack() or not tensor.is_floating_point():
        return None
    with DisableTorchFunction(), torch.no_grad():
        values = tensor.detach().double()
        return torch.stack(
            [values.norm(), (values * torch.arange(values.numel(), device=values.device).view_as(values)).sum()]
        )


def _sampled(tensor: Tensor) -> Tensor | None:
    """Some of a tensor's values, on its device; None where somebody would see them read, or there is no number."""
    if is_dynamo_compiling() or torch._C._len_torch_dispatch_stack() or not tensor.is_floating_point():
        return None
    with DisableTorchFunction(), torch.no_grad():
        if tensor.layout is not torch.strided or tensor.is_meta or not tensor.is_contiguous():
            return None
        values = tensor.detach().view(-1)
        return values[:: max(1, values.numel() // _VALUES)].double()


_of_tape: WeakKeyDictionary[Tape, dict[tuple[int, CodeType], PackRuns]] = WeakKeyDictionary()


def reported(enter: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``saved_tensors_hooks.__enter__`` while a recorder is at work."""

    @wraps(enter)
    def enters(hooks: Any) -> None:
        found = list[PackRuns]()
        if not is_dynamo_compiling() and is_ours_on_top() and code_of(hooks.pack_hook) is not None:
            frame = sys._getframe(1)
            note("saved_tensors_hooks", lambda mode: _runs_of(mode, hooks.pack_hook, frame, found))
        if not found:
            return enter(hooks)
        pack, unpack = _taking_along(hooks.pack_hook, hooks.unpack_hook, found)
        return enter(SimpleNamespace(pack_hook=pack, unpack_hook=unpack))

    return enters


def _taking_along(
    pack: Callable[..., Any], unpack: Callable[..., Any], all_runs: list[PackRuns]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def packs(tensor: Any) -> Any:
        source = _memory(tensor)
        version = version_of(tensor)
        sample = all_runs[0].sample(tensor) if source is not None else None
        value = pack(tensor)
        if source is None:
            return value
        packed = _Packed(value, source, version)
        packed.sample = sample
        for runs in all_runs:
            runs.pack(packed)
        return packed

    def unpacks(packed: Any) -> Any:
        if type(packed) is not _Packed:
            return unpack(packed)
        result = unpack(packed.value)
        for runs in all_runs:
            runs.unpack(packed, result)
        if packed.sample is not None:
            all_runs[0].compare(packed, packed.sample, result)
            packed.sample = None
        return result

    return packs, unpacks


def _runs_of(mode: RecorderMode, pack: Any, frame: FrameType, found: list[PackRuns]) -> None:
    observer, code = mode.observer, code_of(pack)
    if code is None or observer.full or observer.sites.owners.of(code) is not Owner.USER:
        return
    with observer.lock:
        known = _of_tape.setdefault(observer.tape, {})
        span = observer.sites.locate(frame).site.span
        runs = known.get((span, code))
        if runs is None:
            spans = observer.sites.spans
            file, line = spans.sources.file(code.co_filename, True), code.co_firstlineno
            place = spans.shared(Span(file, line, line, NONE, NONE, line, line, spans.text(code.co_name)))
            runs = known[span, code] = PackRuns(len(known), span, place, mode.thread, code.co_name)
        found.append(runs)


def write_packed(tape: Tape) -> None:
    """Note whose saved tensors were mixed up, when a recording ends."""
    for runs in _of_tape.pop(tape, {}).values():
        mixed_up, losses = runs.total(), runs.losses()
        if mixed_up or losses:
            detail = {"function": runs.function, "place": runs.place, "mixed_up": mixed_up, "packed": runs.packed}
            detail |= losses
            tape.add_event(_PACKED, runs.span, runs.thread, runs.number, json.dumps(detail), [])

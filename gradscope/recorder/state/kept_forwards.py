"""What the forward of a custom Function computed: its calls, with copies of small tensors, to be differentiated later.

Torch takes what a backward returns as it is. Autograd's own derivative of the same calls, called again on the copies
once the pass is over (see :mod:`.derivatives_of_forwards`), tells whether it is another one. Of each Function one
application is kept, of the first that a backward pass comes through; code of the program's is not run again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FrameType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet, ref

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from gradscope.frames.frame_locals import reading_locals
from gradscope.frames.rebound_arguments import holds_its_arguments
from gradscope.recorder.places.code_owners import CodeOwners, Owner
from gradscope.recorder.state.identity import Identity, Seen
from gradscope.recorder.state.tensors_in import PLAIN, tensors_in
from gradscope.recorder.torch_internals.capabilities import dispatch_modes, is_observed_otherwise, is_wrapped
from gradscope.recorder.torch_internals.differentiable_functions import Dependence, dependence_of

APPLICATIONS = 4
"""Of a Function that are kept, one after the other, until a pass came through one of which all is known."""

_CALLERS = 6
"""Frames above a call in which its forward is looked for."""
_STEPS = 64
_AGAIN = 3
"""How often one place may call: more is a loop, which solves something, and its backward need not undo it."""
_ELEMENTS = 1 << 14
"""Of the largest tensor that is copied."""
_DTYPES = frozenset((torch.float32, torch.float64))


class Slot(NamedTuple):
    """Stands for a tensor among the arguments of a step: it was an argument of forward, or an earlier step made it."""

    number: int


class KeptCall(NamedTuple):
    """A call that depends on the arguments of forward."""

    function: Callable[..., Any]
    args: Any
    kwargs: Any
    results: tuple[int, ...]
    """The slots of the tensors that it gives."""


class _NotKept(Exception):
    """Something about a forward is not known, or not to be called again."""


class KeptForward:
    """One application of a Function whose steps are all known so far.

    Args:
        node: What forward was given as ``ctx``, which is its node as well.
        code: Forward's.
        arguments: The tensors that it was given beside, by position.
        seen: What the recorder knows of a tensor.
    """

    def __init__(
        self, node: Any, code: CodeType, arguments: Mapping[int, Tensor], seen: Callable[[Tensor], Seen | None]
    ) -> None:
        self.node = ref(node)
        self.code = code
        self.function = type(node).__name__
        self.steps: list[KeptCall] = []
        self.arguments: dict[int, int] = {}
        """By position the slots of those that have a gradient."""
        self.copies: dict[int, Tensor] = {}
        """Those, by their slots."""
        self.outputs: dict[int, tuple[int, Tensor]] = {}
        """By their numbers the slots of what the node gives, and copies."""
        self.kinds: set[Dependence] = set()
        self.taken: set[int] = set()
        """The slots that some step takes."""
        self.given: tuple[Tensor | None, ...] = ()
        """What its backward was given."""
        self.returned: tuple[Tensor | None, ...] = ()
        self._seen_of = seen
        self._slots: dict[int, int] = {}
        self._known: list[Seen] = []
        self._constants: set[int] = set()
        self._calls: Counter[int] = Counter()
        newest = -1
        for position, tensor in arguments.items():
            known = seen(tensor)
            if known is not None:
                newest = max(newest, known.row)
            if known is not None and tensor.dtype in _DTYPES:
                slot = self.arguments[position] = self._slot(known)
                self.copies[slot] = _copied(tensor)
        self._begun_after = newest

    def note(self, function: Callable[..., Any], name: str, args: Any, kwargs: Any, result: Any, place: int) -> None:
        """Keep a call that forward made, which has returned.

        Raises:
            _NotKept: It is none that can be called again on copies.
        """
        taken = tensors_in((args, kwargs or {}))
        results = [self._known_as(tensor) for tensor in tensors_in(result)]
        tracked = [tensor for tensor in taken if self._slot_of(tensor) is not None]
        if not tracked:
            self._constants.update(map(id, results))
            self._known += results
            return
        self._calls[place] += 1
        kind = dependence_of(name, len(tracked))
        if kind is None or len(self.steps) == _STEPS or self._calls[place] > _AGAIN:
            raise _NotKept
        if kind is Dependence.ALIAS:
            slot = self._slots[id(self._known_as(tracked[0]))]
            if slot not in self.arguments.values():
                raise _NotKept  # (forward holds what it computed constant, and so may backward)
            self._slots.update((id(one), slot) for one in results)
            self._known += results
            return
        if not all(tensor.dtype in _DTYPES for tensor in tensors_in(result)[:1]):
            raise _NotKept  # (a comparison, an index: forward steps)
        self.kinds.add(kind)
        given = self._replaced(args), self._replaced(kwargs or {})
        self.steps.append(KeptCall(function, *given, tuple(self._slot(one) for one in results)))

    def close(self) -> bool:
        """Look which of what the steps gave forward has returned; whether there is any."""
        node = self.node()
        for seen in self._known if node is not None else ():
            tensor, slot = seen(), self._slots.get(id(seen))
            if tensor is not None and slot is not None and tensor.requires_grad and tensor.grad_fn is node:
                self.outputs[tensor.output_nr] = slot, _copied(tensor)
        self._known, self._slots, self._constants = [], {}, set()
        return bool(self.outputs)

    def _slot(self, seen: Seen) -> int:
        self._known.append(seen)
        return self._slots.setdefault(id(seen), len(self._slots))

    def _slot_of(self, tensor: Tensor) -> int | None:
        return self._slots.get(id(self._known_as(tensor)))

    def _known_as(self, tensor: Tensor) -> Seen:
        seen = self._seen_of(tensor)
        if seen is None or type(tensor) not in PLAIN:
            raise _NotKept
        return seen

    def _replaced(self, value: Any) -> Any:
        """Arguments with a slot for each tensor that depends on forward's, and copies of the others."""
        kind = type(value)
        if kind in PLAIN:
            slot = self._slot_of(value)
            if slot is not None:
                self.taken.add(slot)
                return Slot(slot)
            seen = self._known_as(value)
            if seen.row > self._begun_after and id(seen) not in self._constants:
                raise _NotKept  # (made in forward by what was not seen)
            return _copied(value)
        if kind is tuple or kind is list:
            return kind(self._replaced(one) for one in value)
        if kind is dict:
            return {key: self._replaced(one) for key, one in value.items()}
        return value


def _copied(tensor: Tensor) -> Tensor:
    plain = tensor.layout is torch.strided and tensor.is_cpu and tensor.numel() <= _ELEMENTS and not is_wrapped(tensor)
    if not plain:
        raise _NotKept
    return tensor.detach().clone()


class KeptForwards:
    """The applications that are kept, of the user's Functions.

    Args:
        identity: What is known of tensors.
        owners: Whose code is whose.
        function_of: The torch function behind what the recorder calls it by.
    """

    def __init__(self, identity: Identity, owners: CodeOwners, function_of: Callable[[Any], Any]) -> None:
        self._identity = identity
        self._owners = owners
        self._function_of = function_of
        self._open: KeptForward | None = None
        self._given_up: ref[Any] | None = None
        """The node of the last forward of which something was not known: what it does further is not noted."""
        self._kept: dict[int, KeptForward] = {}
        """By the ``id()`` of their nodes, those that no backward came through yet."""
        self._tries: WeakKeyDictionary[CodeType, int] = WeakKeyDictionary()
        self._compared: WeakSet[CodeType] = WeakSet()
        self._done: list[KeptForward] = []
        """Those whose backward has returned."""

    @property
    def is_open(self) -> bool:
        """Whether a forward is under way, or was the last that was seen."""
        return self._open is not None

    @property
    def awaits(self) -> bool:
        """Whether some backward is waited for."""
        return self._open is not None or bool(self._kept)

    def drop(self) -> None:
        """Forget the forward that is under way."""
        self._open = None

    def note(self, info: Any, frame: FrameType, args: Any, kwargs: Any, result: Any, place: int) -> None:
        """A call of the user's has returned, in a frame, for the first times at its place, and without grad mode."""
        forward = _forward_above(frame)
        node = None if forward is None else _first_argument(forward)
        if self._open is not None and (node is None or self._open.node() is not node):
            self.close()
        if forward is None or node is None:
            return
        try:
            if self._open is None and not self._begins(forward, node):
                return
            function = self._function_of(info)
            if function is None or self._open is None:
                raise _NotKept
            self._open.note(function, info.name, args, kwargs, result, place)
        except _NotKept:
            self._open, self._given_up = None, ref(node)

    def _begins(self, forward: FrameType, node: Any) -> bool:
        """Begin to keep an application, if it is one to be kept; whether it is."""
        code = forward.f_code
        tries = self._tries.get(code, 0)
        if tries >= APPLICATIONS or self._owners.of(code) is not Owner.USER:
            return False
        if any(kept.node() is node for kept in self._kept.values()):
            return False
        if self._given_up is not None and self._given_up() is node:
            return False
        if not holds_its_arguments(forward):
            raise _NotKept
        self._tries[code] = tries + 1
        if (
            dispatch_modes()
            or is_observed_otherwise()
            or torch.is_anomaly_enabled()
            or torch.is_inference_mode_enabled()
        ):
            return False
        names = code.co_varnames[1 : code.co_argcount]
        with reading_locals(forward) as values:
            found = {at: values.get(name) for at, name in enumerate(names)}
        tensors: dict[int, Any] = {at: value for at, value in found.items() if type(value) in PLAIN}
        self._open = KeptForward(node, code, tensors, self._seen)
        return True

    def _seen(self, tensor: Tensor) -> Seen | None:
        return self._identity.tensors.get(id(tensor))

    def take_done(self) -> KeptForward | None:
        """One whose backward has returned, of a Function of which none was compared yet."""
        while self._done:
            kept = self._done.pop(0)
            if kept.code not in self._compared:
                return kept
        return None

    def settle(self, kept: KeptForward) -> None:
        """No further application is kept of a Function of which one was compared."""
        self._tries[kept.code] = APPLICATIONS
        self._compared.add(kept.code)

    def close(self) -> None:
        """The forward that was under way is over."""
        kept, self._open = self._open, None
        node = kept.node() if kept is not None else None
        try:
            if kept is not None and node is not None and kept.close():
                self._kept[id(node)] = kept
        except _NotKept:
            pass

    def returned(self, node: Any, given: tuple[Any, ...], returned: Any) -> None:
        """A node's backward was given gradients, and has returned others."""
        if self._open is not None and self._open.node() is node:
            self.close()
        kept = self._kept.pop(id(node), None)
        if kept is None or kept.node() is not node:
            return
        gradients = returned if type(returned) is tuple else (returned,)
        try:
            kept.given, kept.returned = tuple(map(_copied_gradient, given)), tuple(map(_copied_gradient, gradients))
        except _NotKept:
            return
        self._done.append(kept)


def _copied_gradient(value: Any) -> Tensor | None:
    if value is None:
        return None
    if type(value) not in PLAIN or value.dtype not in _DTYPES:
        raise _NotKept
    return _copied(value)


def _forward_above(frame: FrameType) -> FrameType | None:
    """The frame of the innermost function called ``forward`` that is not a module's."""
    for one in _frames_above(frame):
        code = one.f_code
        if code.co_name == "forward" and code.co_argcount and code.co_varnames[0] != "self":
            return one
    return None


def _frames_above(frame: FrameType | None) -> Iterator[FrameType]:
    left = _CALLERS
    while frame is not None and left:
        yield frame
        frame, left = frame.f_back, left - 1


def _first_argument(forward: FrameType) -> Any:
    """What a forward is given as ``ctx``, where it is a Function's; else None."""
    with reading_locals(forward) as values:
        first = values.get(forward.f_code.co_varnames[0])
    return first if isinstance(first, BackwardCFunction) else None

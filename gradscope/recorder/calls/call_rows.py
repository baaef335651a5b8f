"""What recording any call needs: its row, its tensors, and the call into torch's own Python that it is part of."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Any

import torch

from gradscope.recorder.calls.after_limit import CountedCalls
from gradscope.recorder.calls.collective_calls import WHOLE
from gradscope.recorder.calls.torch_functions import (
    APPLIES_IN_C,
    DeepCopy,
    Function,
    FunctionInfo,
    ViewOfItself,
    describe,
    lives_with_torch,
)
from gradscope.recorder.naming.seen_names import FULL_MATCHES, SeenNames
from gradscope.recorder.places.call_sites import Site
from gradscope.recorder.places.callers import MODE_METHODS, CallSites, Located
from gradscope.recorder.places.torch_calls import TorchCall
from gradscope.recorder.state.foreign_memory import ForeignMemory
from gradscope.recorder.state.graph_nodes import LATER, GraphNodes
from gradscope.recorder.state.identity import Identity
from gradscope.recorder.state.many_tensors import ManyTensors
from gradscope.recorder.state.tensor_states import TensorStates
from gradscope.recorder.state.tensors_in import tensors_in
from gradscope.recorder.tape import Tape
from gradscope.recorder.torch_internals.capabilities import innermost_saved_hooks, is_any_autocast_enabled
from gradscope.recording.rows import OpFlag, OpKind, TensorFlag

_OF_THEIR_OWN: dict[str, type[Function]] = {
    "Tensor.__deepcopy__": DeepCopy,
    **({"Tensor.view_as": ViewOfItself} if APPLIES_IN_C else {}),
}
_MODE, _GROUP, _COLLECTIVE = int(OpKind.MODE), int(OpKind.GROUP), int(OpKind.COLLECTIVE)
_PASSES = (int(OpKind.BACKWARD), int(OpKind.GRAD))
_GRAD, _INFERENCE, _AUTOCAST, _HOOKED, _CONTINUED = (
    int(flag) for flag in (OpFlag.GRAD, OpFlag.INFERENCE, OpFlag.AUTOCAST, OpFlag.HOOKED, OpFlag.CONTINUED)
)
_EXTERNAL = int(TensorFlag.EXTERNAL)
_is_grad_enabled = torch.is_grad_enabled
_is_inference_mode = torch.is_inference_mode_enabled


def modes_in_force() -> int:
    """The modes in force, as :class:`OpFlag`."""
    flags = _GRAD if _is_grad_enabled() else 0
    if _is_inference_mode():
        flags |= _INFERENCE
    if is_any_autocast_enabled():
        flags |= _AUTOCAST
    return flags if innermost_saved_hooks(True) is None else flags | _HOOKED


def is_looked_at(site: Site) -> bool:
    """Whether names are matched in this execution of a call site, which is counted."""
    before = site.seen
    site.seen = before + 1
    return before < FULL_MATCHES or not before & (before - 1)


def _is_continued(group: tuple[Any, ...], op: int) -> bool:
    """Whether an op is a further one of a call into torch's own Python that has one already."""
    call, _, at, _ = group
    return isinstance(call, TorchCall) and not call.begin(at, op)


class CallRows:
    """Writes rows for calls. One for all threads of a recording: what is known of one call goes with the call."""

    __slots__ = ("__dict__", "__weakref__", "_thread", "full", "lock", "muted")

    def __init__(
        self,
        tape: Tape,
        identity: Identity,
        graph: GraphNodes,
        sites: CallSites,
        names: SeenNames,
        max_ops: int | None = None,
    ) -> None:
        self.tape = tape
        self.identity = identity
        self.states = TensorStates(tape, identity, graph)
        self.many = ManyTensors(tape, self.states)
        self.sites = sites
        self.names = names
        self.functions: dict[Any, Function] = {}
        self.muted = False
        self.full = False
        """Single ops are left out from now on: see :mod:`.after_limit`."""
        self.after_limit = CountedCalls(tape)
        self.foreign = ForeignMemory(tape, identity)
        self.lock = threading.RLock()
        """Held while rows are written."""
        self._uses = tape.pending["uses"]
        self._looks_at_saved = False
        self._max_ops = max_ops
        self._thread = 0
        self._group: tuple[Any, int, int] | None = None
        self._group_uses: set[int] = set()
        self._group_begun = 0
        """The number of tensors when the call into torch's Python that is under way began."""
        self._hooked: set[int] = set()
        """Threads whose last op ran under saved-tensor hooks."""
        self._limit()

    @property
    def may_read_saved(self) -> bool:
        """No saved-tensor hooks were in force at any thread's last op, nor are they now."""
        return not self._hooked and innermost_saved_hooks(True) is None

    def learn(self, func: Any) -> Function:
        """Describe a function that was not called before."""
        described = describe(func)
        kind = _OF_THEIR_OWN.get(described.name, Function)
        with self.lock:
            info = kind(described, self.tape.text(described.name), func)
        if lives_with_torch(func):
            self.functions[func] = info
        return info

    def learn_type(self, kind: type) -> Function:
        """Describe a callable that cannot be asked itself by its class."""
        info = FunctionInfo(f"{kind.__module__}.{kind.__qualname__}", OpKind.CALL, True, False)
        with self.lock:
            return Function(info, self.tape.text(info.name), None)

    def fault(self, where: str) -> None:
        """Keep the error of our own that is being handled."""
        self.tape.fault(where, traceback.format_exc())

    def locate(self, frame: FrameType) -> Located:
        """Find the user's frame above a frame of somebody else's."""
        with self.lock:
            return self.sites.locate(frame)

    def _turn_to(self, thread: int) -> None:
        """Nodes are numbered as a thread numbers them, from here on."""
        if thread != self._thread:
            self._thread = thread
            self.states.graph.turn_to(thread)

    def _flush(self) -> None:
        self.tape.flush()
        self._limit()

    def _limit(self) -> None:
        """Leave single ops out once there are as many as were asked for."""
        if self._max_ops is None or self.full:
            return
        self.full = self.tape.op_count >= self._max_ops
        self.tape.limit_batch(self._max_ops - self.tape.op_count)
        if self.full and self._group is not None and self._group[1] == self.tape.op_count - 1:
            self.after_limit.go_on_with(self._group[0], self._thread)

    def _named(self, info: Function, located: Located) -> tuple[int, int]:
        """Name and kind of a call: its own, or those of the call into torch's own Python that it is a part of."""
        if not located.label or info.kind in _PASSES or (info.kind == _COLLECTIVE and located.label not in WHOLE):
            return info.text, info.kind
        is_mode = info.kind == _MODE and located.label.startswith(MODE_METHODS)
        return self.tape.text(located.label), _MODE if is_mode else _GROUP

    def _op(self, info: Function, located: Located, thread: int, flags: int) -> tuple[int, bool]:
        """The row that the call belongs to: a new one, or that of the call into torch's Python that is under way."""
        tape, site, group = self.tape, located.site, self._group
        text, kind = self._named(info, located)
        if kind == _GROUP:
            if group is not None and group[0] == located.group and group[1] == tape.op_count - 1:
                self._group = (group[0], group[1], group[2] + 1)
                tape.update_op(group[1], calls=group[2] + 1)
                return group[1], False
            self._group = (located.group, tape.op_count, 1)
        if located.group is not None and _is_continued(located.group, tape.op_count):
            flags |= _CONTINUED
        self._group_uses, self._group_begun = set(), tape.tensor_count
        if located.label in WHOLE and kind == _GROUP:
            kind = _COLLECTIVE
        return tape.add_op(text, kind, site.span, site.inner, thread, flags), True

    def _withdraw(self, op: int) -> None:
        """Take back the row of a call that did nothing to any tensor."""
        self.tape.withdraw_op(op)
        if self._group is not None and self._group[1] == op:
            if isinstance(call := self._group[0][0], TorchCall):
                call.withdraw(op)
            self._group = None

    def _inputs(self, value: Any, op: int, grouped: bool) -> None:
        """Note the tensors in an argument; one that was not seen before is entered as external."""
        known = self.identity.tensors
        for tensor in tensors_in(value):
            seen = known.get(id(tensor))
            if seen is None:
                seen = self.states.enter(tensor, op, LATER, self.may_read_saved, _EXTERNAL, ())
                self._watch((tensor,), is_given_away=False)  # torch.from_numpy is not seen: its tensor appears here
            elif grouped and not self._is_new_to_group(seen.row):
                continue
            self._uses += (op, seen.row)

    def _enter_unknown(self, tensors: Sequence[Any]) -> None:
        """Enter tensors that were not seen before as they are before a call sets something of them."""
        if self.identity.dead:
            self.identity.bury()
        for tensor in tensors:
            if id(tensor) not in self.identity.tensors:
                self.states.enter(tensor, self.tape.op_count, 0, False, _EXTERNAL, ())

    def _watch(self, tensors: Sequence[Any], is_given_away: bool) -> None:
        """Look at the memory of tensors that others can write from now on; see :meth:`ForeignMemory.watch`."""
        if self.full:
            return
        looked = bool(self.foreign)
        self._enter_unknown(tensors)
        for tensor in tensors:
            self.foreign.watch(tensor, self._thread, is_given_away=is_given_away)
        if self.foreign and not looked and not self._looks_at_saved:
            self._looks_at_saved = True
            self.states.graph.look_at_saved(self.foreign)

    def _is_new_to_group(self, tensor: int) -> bool:
        """Whether a tensor comes into the call that is under way from outside, and for the first time."""
        if tensor >= self._group_begun or tensor in self._group_uses:
            return False
        self._group_uses.add(tensor)
        return True

    def _whole_call(
        self, text: int, kind: int, located: Located, thread: int, field: int, changes: list[tuple[Any, int, int]]
    ) -> int:
        """One row for a call that was looked at around the whole, with what it changed: tensors, before and after."""
        tape = self.tape
        op = tape.op_count
        tape.op_count = op + 1
        tape.ops += (text, kind, located.site.span, located.site.inner, thread, modes_in_force(), len(changes))
        self.many.note_changes(op, field, changes, self._inputs)
        if len(tape.ops) >= tape.flush_at:
            self._flush()
        return op

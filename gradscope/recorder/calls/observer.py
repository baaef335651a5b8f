"""What one call of a torch function changed: asked of torch right before and after the call.

An error in here never reaches the program: it is kept as a fault and reported at the end.
"""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from gradscope.recorder.calls.after_limit import CountedCalls
from gradscope.recorder.calls.asked_functions import AskedFunctions
from gradscope.recorder.calls.collective_calls import WHOLE, detail_of, whole_of
from gradscope.recorder.calls.faults import is_programs
from gradscope.recorder.calls.module_looks import ModuleLooks
from gradscope.recorder.calls.plain_factors import TAKES_FACTOR, plain_factor
from gradscope.recorder.calls.torch_functions import (
    APPLIES_IN_C,
    Function,
    FunctionInfo,
    ViewOfItself,
    describe,
    lives_with_torch,
)
from gradscope.recorder.calls.waiting_collectives import WaitingCollectives
from gradscope.recorder.naming.last_statements import calls_to
from gradscope.recorder.naming.seen_names import FULL_MATCHES, SeenNames
from gradscope.recorder.naming.unseen_tensors import Unseen
from gradscope.recorder.places.call_sites import Site
from gradscope.recorder.places.callers import MODE_METHODS, CallPlace, CallSites, Located
from gradscope.recorder.places.frames_around import FramesAround
from gradscope.recorder.places.torch_calls import TorchCall
from gradscope.recorder.repetition.forgetting import Forgetting
from gradscope.recorder.state.backward_passes import ObservedPass, PassObserver
from gradscope.recorder.state.births import ForwardBirths
from gradscope.recorder.state.fingerprints import Fingerprints
from gradscope.recorder.state.foreign_memory import ForeignMemory
from gradscope.recorder.state.graph_nodes import LATER, GraphNodes
from gradscope.recorder.state.identity import Identity
from gradscope.recorder.state.many_tensors import Held, ManyTensors
from gradscope.recorder.state.module_numbers import number_of_module
from gradscope.recorder.state.moves import Moves
from gradscope.recorder.state.numpy_arrays import NumpyArrays
from gradscope.recorder.state.tensor_states import TensorStates
from gradscope.recorder.state.tensors_in import BORING, PLAIN, arguments_of, grad_of, tensors_in, version_of
from gradscope.recorder.state.values_and_memory import AllocatorFigures, Values
from gradscope.recorder.tape import Tape
from gradscope.recorder.torch_internals.capabilities import innermost_saved_hooks, is_any_autocast_enabled
from gradscope.recording.rows import EventKind, Field, OpFlag, OpKind, TensorFlag
from gradscope.recording.tables import NONE

_SETS_GRAD = ("Tensor.grad.__set__", "Tensor.grad.__delete__")
_SETS_REQUIRES_GRAD = ("Tensor.requires_grad.__set__", "Tensor.requires_grad_")
_CALL, _SET, _MODE, _GROUP, _STEP = (
    int(kind) for kind in (OpKind.CALL, OpKind.SET, OpKind.MODE, OpKind.GROUP, OpKind.STEP)
)
_DIRECT_FORWARD, _REFUSED = int(EventKind.DIRECT_FORWARD), int(EventKind.REFUSED)
_FACTOR = int(EventKind.FACTOR)
_PASSES = (int(OpKind.BACKWARD), int(OpKind.GRAD))
_COLLECTIVE = int(OpKind.COLLECTIVE)
_GRAD, _INFERENCE, _AUTOCAST, _RAISED, _HOOKED, _MADE = (
    int(flag) for flag in (OpFlag.GRAD, OpFlag.INFERENCE, OpFlag.AUTOCAST, OpFlag.RAISED, OpFlag.HOOKED, OpFlag.MADE)
)
_CONTINUED = int(OpFlag.CONTINUED)
_REQUIRES_GRAD, _LEAF, _EXTERNAL = (
    int(flag) for flag in (TensorFlag.REQUIRES_GRAD, TensorFlag.LEAF, TensorFlag.EXTERNAL)
)
_FIELDS = tuple(int(field) for field in (Field.REQUIRES_GRAD, Field.GRAD_FN, Field.LEAF, Field.STORAGE, Field.LAYOUT))
_VERSION, _GRAD_FIELD, _WRITTEN = int(Field.VERSION), int(Field.GRAD), int(Field.WRITTEN)
_DIRECT_FORWARDS = 256
"""Direct calls of ``forward`` that are noted, each once for a module and a place."""
_getframe = sys._getframe
_is_grad_enabled = torch.is_grad_enabled
_is_inference_mode = torch.is_inference_mode_enabled
_DisableSubclass = torch._C.DisableTorchFunctionSubclass


def _modes() -> int:
    """The modes in force, as :class:`OpFlag`."""
    flags = _GRAD if _is_grad_enabled() else 0
    if _is_inference_mode():
        flags |= _INFERENCE
    if is_any_autocast_enabled():
        flags |= _AUTOCAST
    return flags if innermost_saved_hooks(True) is None else flags | _HOOKED


def _is_left(*_: object) -> bool:
    """Where there is no native core."""
    return False


def _is_looked_at(site: Site) -> bool:
    """Whether names are matched in this execution of a call site, which is counted."""
    before = site.seen
    site.seen = before + 1
    return before < FULL_MATCHES or not before & (before - 1)


def _freezes(info: Function, tensor: Any) -> bool:
    """Whether a call switched requires_grad off; a subclass is not asked, which may run code of the program's."""
    return info.name in _SETS_REQUIRES_GRAD and type(tensor) in PLAIN and not tensor.requires_grad


def _is_continued(group: tuple[Any, ...], op: int) -> bool:
    """Whether an op is a further one of a call into torch's own Python that has one already."""
    call, _, at, _ = group
    return isinstance(call, TorchCall) and not call.begin(at, op)


class _GradSet(list[tuple[Any, int]]):
    """What is known before a call sets a tensor's ``.grad``: also the gradient that it had."""

    gradient: int
    """Its row, or NONE."""


def _by_identity(written: list[tuple[Any, int]]) -> dict[int, int]:
    """For each tensor in what was written (tensors, or lists of them), by its id: whether that is certain."""
    found: dict[int, int] = {}
    for value, certainty in written:
        if type(value) is Tensor or type(value) is Parameter:
            found[id(value)] = certainty
        else:
            found.update((id(tensor), certainty) for tensor in tensors_in(value))
    return found


def _results(result: Any, before: Any) -> list[Any]:
    """The tensors that a call gave or may have changed, each once."""
    changed = [tensor for tensor, _ in before] if isinstance(before, list) else []
    return list({id(tensor): tensor for tensor in (*tensors_in(result), *changed)}.values())


def _written(before: list[tuple[Any, int]], is_uncounted: bool) -> list[Any]:
    """The tensors that a call changed, or may have changed without counting."""
    return [tensor for tensor, version in before if is_uncounted or version < 0 or version_of(tensor) != version]


class Observer:
    """Turns calls into rows. One for all threads of a recording: what is known of one call goes with the call."""

    __slots__ = ("__dict__", "__weakref__", "_thread", "full", "lock", "muted", "values")

    def __init__(
        self,
        tape: Tape,
        identity: Identity,
        graph: GraphNodes,
        sites: CallSites,
        names: SeenNames,
        max_ops: int | None = None,
        looks_for_births: bool = False,
        fingerprints: Fingerprints | None = None,
    ) -> None:
        self.tape = tape
        self.identity = identity
        self.states = TensorStates(tape, identity, graph)
        self.many = ManyTensors(tape, self.states)
        self.passes = PassObserver(tape, self.states, self.many, looks_for_births, fingerprints)
        self._births = ForwardBirths(tape, identity) if looks_for_births else None
        self.sites = sites
        self.names = names
        self._raised = FramesAround(tape, sites, EventKind.RAISED)
        self._frozen = FramesAround(tape, sites, EventKind.FROZEN)
        self._direct_forwards: set[tuple[int, int]] = set()
        sites.note_direct_forward = self._note_direct_forward
        self._uses = tape.pending["uses"]
        self._unseen = Unseen(tape, self.states, sites, names, lambda tensor: self._watch([tensor], False))
        self.functions: dict[Any, Function] = {}
        self.asked = AskedFunctions(sites.owners, self.learn)
        self.muted = False
        self.full = False
        """Single ops are left out from now on: see :mod:`.after_limit`."""
        self.foreign = ForeignMemory(tape, identity)
        self.arrays = NumpyArrays(tape)
        self._looks_at_saved = False
        self.values: Values | None = None
        self.fingerprints = self.passes.fingerprints
        self._device_memory = AllocatorFigures(tape)
        self._has_cuda = torch.cuda.is_available()
        self._is_asked_more = self._has_cuda or looks_for_births or fingerprints is not None
        self._max_ops = max_ops
        self.lock = threading.RLock()
        """Held while rows are written."""
        self._thread = 0
        self._group: tuple[Any, int, int] | None = None
        self._group_uses: set[int] = set()
        self._group_begun = 0
        """The number of tensors when the call into torch's Python that is under way began."""
        self.after_limit = CountedCalls(tape)
        self.collectives = WaitingCollectives(tape)
        self._hooked: set[int] = set()
        """Threads whose last op ran under saved-tensor hooks."""
        self.module_looks = ModuleLooks(self)
        self.has_noted_step: Callable[..., bool] = _is_left
        self.has_noted_cleared: Callable[..., bool] = _is_left
        """The native core's, which note the usual ones."""
        self.forgetting: Forgetting | None = None
        """Takes out what came again alike, where that was asked for."""
        self._limit()

    @property
    def may_read_saved(self) -> bool:
        """No saved-tensor hooks were in force at any thread's last op, nor are they now."""
        return not self._hooked and innermost_saved_hooks(True) is None

    def silence(self) -> None:
        """Record nothing more: this process is a fork, in which a thread that held the lock does not exist."""
        self.muted = True
        self.lock = threading.RLock()

    def learn(self, func: Any) -> Function:
        """Describe a function that was not called before."""
        described = describe(func)
        kind = ViewOfItself if APPLIES_IN_C and described.name == "Tensor.view_as" else Function
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

    def enter_rest(self, namespace: Mapping[str, Any], filename: str) -> None:
        """Enter what is unknown of a module's tensors when its program, the recording's first thread, is over.

        After the limit a seen call may have made them as well, which was counted.
        """
        if self.full:
            return
        self._turn_to(0)
        self._unseen.enter_rest(namespace, filename, _modes(), self.may_read_saved)

    def fault(self, where: str) -> None:
        """Keep the error of our own that is being handled."""
        self.tape.fault(where, traceback.format_exc())

    def new_place(self, frame: FrameType) -> CallPlace:
        """Enter the instruction that a frame is at."""
        with self.lock:
            self.module_looks.go_on()
            return self.sites.new_place(frame)

    def forget_direct_forwards(self, module: int) -> None:
        """Note again where ``forward`` of a module (its number) is called directly: a hook is on it from now on."""
        self._direct_forwards = {known for known in self._direct_forwards if known[0] != module}

    def _note_direct_forward(self, module: Module, span: int) -> None:
        number = number_of_module(module)
        if (number, span) not in self._direct_forwards and len(self._direct_forwards) < _DIRECT_FORWARDS:
            self._direct_forwards.add((number, span))
            detail = json.dumps({"module": type(module).__name__})
            self.tape.add_event(_DIRECT_FORWARD, span, self._thread, number, detail, [])

    def locate(self, frame: FrameType) -> Located:
        """Find the user's frame above a frame of somebody else's."""
        with self.lock:
            return self.sites.locate(frame)

    def _turn_to(self, thread: int) -> None:
        """Nodes are numbered as a thread numbers them, from here on."""
        if thread != self._thread:
            self._thread = thread
            self.states.graph.turn_to(thread)

    def before(self, info: Function, located: Located, args: Any, kwargs: Any, thread: int) -> Any:
        """What must be known of the arguments before a call that may change them."""
        if info.kind in _PASSES:
            with self.lock:
                self._turn_to(thread)
                if self.foreign and not self.full:
                    self.foreign.look_at_all(thread)
                root = args[0] if args else None
                if self.passes.was_given_node(root):
                    self._take_up(root, located, thread)
                return ObservedPass(self.passes, info.kind, args, kwargs, thread)
        if not info.mutates and "out" not in kwargs:
            return None
        tensors = arguments_of(args, kwargs)
        if info.shares:
            with self.lock:
                self._turn_to(thread)
                self._watch(tensors[:1], info.kind != _CALL)
        if info.kind == _COLLECTIVE:
            frame = _getframe(1)
            self.begin_collective(detail_of(whole_of(frame) or info.name, kwargs, tensors), thread, frame)
        if info.kind == _SET:
            with self.lock:
                self._turn_to(thread)
                self._enter_unknown(tensors)
                if info.name in _SETS_GRAD:
                    known = _GradSet((tensor, version_of(tensor)) for tensor in tensors)
                    known.gradient = self.identity.row_of(grad_of(tensors[0]))
                    return known
        return [(tensor, version_of(tensor)) for tensor in tensors]

    def _take_up(self, root: Any, located: Located, thread: int) -> None:
        """Enter what a Function's ``apply`` made, from which a pass is to start: by its name, or at the pass."""
        flags = _modes()
        if located.user is not None:
            self._unseen.announce(located.site, located.user, [root], (), thread, flags, not self._hooked)
        if self.passes.was_given_node(root):
            self.passes.take_up(root, not flags & _HOOKED)

    def observe(
        self,
        info: Function,
        located: Located,
        args: Any,
        kwargs: Any,
        result: Any,
        before: Any,
        since: int,
        thread: int,
    ) -> None:
        """Record a call that has returned."""
        tape, identity = self.tape, self.identity
        if identity.dead:
            identity.bury()
        if thread != self._thread:
            self._thread = thread
            self.states.graph.turn_to(thread)
        flags = _modes() | located.below
        read_saved = not flags & _HOOKED
        site, user = located.site, located.user
        matching = _is_looked_at(site)
        if (matching or site.meets_unseen) and user is not None:
            changed = before if isinstance(before, list) else ()
            self._unseen.announce(site, user, arguments_of(args, kwargs), changed, thread, flags, not self._hooked)
            if user.f_code.co_name == "forward":
                self.sites.look_at_forward(user)
        grouped = bool(located.label)
        if grouped:
            op, is_new = self._op(info, located, thread, flags)
        else:
            op, is_new = tape.op_count, True
            tape.op_count = op + 1
            tape.ops += (info.text, info.kind, site.span, site.inner, thread, flags, 1)
        known = identity.tensors
        inputs = (*args, *kwargs.values()) if kwargs else args
        for value in inputs:
            seen = known.get(id(value))
            if seen is not None:
                if not grouped or self._is_new_to_group(seen.row):
                    self._uses += (op, seen.row)
            elif type(type(value)) is not type or type(value) not in BORING:
                self._inputs(value, op, grouped)
        kind = type(result)
        touched = False
        if type(kind) is not type or kind not in BORING:
            for tensor in (result,) if kind is Tensor or kind is Parameter else tensors_in(result):
                seen = known.get(id(tensor))
                if seen is None:
                    self.states.enter(tensor, op, since, read_saved, 0, inputs)
                else:
                    tape.pending["results"] += (op, seen.row)
                touched = True
        if before is not None:
            if info.kind in _PASSES:
                before.finish(op, result, site.span)
                touched = True
            else:
                uncounted = None if info.uncounted is None else info.uncounted.by_call(args, kwargs)
                touched |= self._changes(info, op, before, since, read_saved, result, uncounted)
                if info.kind == _COLLECTIVE:
                    self.collectives.end(op, site.span, thread)
                if info.shares and before:
                    self.arrays.note(op, site.span, identity.row_of(before[0][0]), result)
                if info.kind == _SET and user is not None and _freezes(info, before[0][0]):
                    self._frozen.note(op, user, thread)
        if read_saved:
            self._hooked.discard(thread)
        else:
            self._hooked.add(thread)
        if info.kind == _CALL and not touched:
            if is_new:
                self._withdraw(op)
            return
        if matching and user is not None:
            self.names.match_loaded(site, user, op)
            if info.name in TAKES_FACTOR and not grouped:
                self._note_factor(info.name, args, kwargs, result, site.span, op, thread)
        elif site.meets_unseen and user is not None:
            self.names.wait_for_stored(site, op, calls_to(user)[id(user)])
        if self.values is not None or self._is_asked_more:
            self._note_extras(result, before, site.span, op)
            if self.fingerprints is not None and info.kind not in _PASSES:
                written = _written(before, info.kind == _SET or info.uncounted is not None) if before else ()
                self.fingerprints.note_op(op, info.name, tensors_in(inputs), tensors_in(result), written)
            if self._births is not None and info.kind not in _PASSES:
                self._note_births(result, before, inputs, site.span, op, thread)
        if len(tape.ops) >= tape.flush_at or (tape.on_flush is not None and tape.is_old()):
            self._settle()

    def _flush(self) -> None:
        self.tape.flush()
        self._limit()

    def _settle(self) -> None:
        """Move what is pending on, at the end of a call of which nobody knows anything by its row any more."""
        if self.forgetting is not None:
            self.identity.bury()
            self.forgetting.look()
        self._flush()

    def is_quiet(self) -> bool:
        """Whether no call is under way that knows rows, in this thread or another."""
        in_flight = self.passes.in_flight
        is_alone = self.states.graph.has_one_thread and len(in_flight.threads) <= 1
        return is_alone and not in_flight.any and not self.passes.looks.has_unread

    def move(self, moves: Moves) -> None:
        """Know everything by its new row; what has died since it was looked for repetition is still known as well."""
        for one in (self.identity, self.states.graph, self.foreign, self.arrays, self.names, self.module_looks):
            one.move(moves)
        tensors, ops = moves["tensors"], moves["ops"]
        self._group_uses = {tensors(row) for row in self._group_uses}
        self._group_begun = tensors(self._group_begun)
        if self._group is not None:
            self._group = (self._group[0], ops(self._group[1]), self._group[2])

    def _limit(self) -> None:
        """Leave single ops out once there are as many as were asked for."""
        if self._max_ops is None or self.full:
            return
        self.full = self.tape.op_count >= self._max_ops
        self.tape.limit_batch(self._max_ops - self.tape.op_count)
        if self.full and self._group is not None and self._group[1] == self.tape.op_count - 1:
            self.after_limit.go_on_with(self._group[0], self._thread)

    def _note_extras(self, result: Any, before: Any, span: int, op: int) -> None:
        results = tensors_in(result)
        for tensor in results if self._has_cuda else ():
            self._device_memory.note(tensor, span, op)
        if self.values is not None:
            for tensor in _results(result, before):
                self.values.note(tensor, self.identity.row_of(tensor), op)

    def _note_factor(self, name: str, args: Any, kwargs: Any, result: Any, span: int, op: int, thread: int) -> None:
        factor = plain_factor(name, args, kwargs)
        if factor is not None and type(result) in PLAIN and not result.requires_grad:
            self.tape.add_event(_FACTOR, span, thread, op, json.dumps({"by": factor}), [])

    def _note_births(self, result: Any, before: Any, inputs: Any, span: int, op: int, thread: int) -> None:
        self._births.note(op, span, thread, tensors_in(inputs), _results(result, before))  # type: ignore[union-attr]

    def begin_collective(self, detail: dict[str, Any], thread: int, frame: FrameType) -> None:
        """A collective begins, in which others may let this process wait until it is killed; a frame called it."""
        self.collectives.begin(detail, thread)
        if self.tape.is_cheap():
            with self.lock:
                if not self.full:
                    self.collectives.note(self.sites.locate(frame).site.span, thread)
                self._flush()

    def end_collective(self, function: str, thread: int, frame: FrameType, error: BaseException | None = None) -> None:
        """Record a collective without a tensor, of which no mode is told, when it is over; a frame called it."""
        with self.lock:
            self.identity.bury()
            located, tape = self.sites.locate(frame), self.tape
            text = tape.text(function)
            if self.full:
                self.collectives.forget(thread)
                self.after_limit.add(located.site.span, text)
                return
            op = self._whole_call(text, _COLLECTIVE, located, thread, _VERSION, [])
            tape.update_op(op, calls=1, flags=_modes() | (_RAISED if error is not None else 0))
            if error is not None:
                tape.pending["errors"] += (op, tape.text(type(error).__qualname__), tape.text(str(error)))
            self.collectives.end(op, located.site.span, thread)

    def takes_over(self, *_: object) -> bool:
        """Whether nothing is to be done about a call after the limit: one who stands for an observer has done it."""
        return False

    def begin_pass_after_limit(self, args: Any, kwargs: Any, located: Located, thread: int) -> None:
        """Look at what a backward pass begins from that is not recorded."""
        with self.lock:
            self.after_limit.begin_pass(args, kwargs or {}, located.site.span, thread)

    def count(self, info: Function, located: Located, result: Any, thread: int) -> None:
        """Count a call that has returned and is not recorded; the lock is held."""
        if info.kind == _COLLECTIVE:
            self.collectives.forget(thread)
        text, kind = self._named(info, located)
        self.after_limit.count(info, located, text, kind == _GROUP, result, thread)
        if self.tape.on_flush is not None and self.after_limit.is_due():
            self.after_limit.write_counts()
            self.tape.flush()

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

    def _known_inputs(self, value: Any, op: int) -> None:
        """Note those of the tensors in an argument that were seen before."""
        for tensor in tensors_in(value):
            row = self.identity.row_of(tensor)
            if row != NONE:
                self._uses += (op, row)

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

    def _changes(
        self,
        info: Function,
        op: int,
        before: Any,
        since: int,
        read_saved: bool,
        result: Any,
        uncounted: list[tuple[Any, int]] | None,
    ) -> bool:
        """Note what is different now about the tensors that went in, and what was written past their counters."""
        past_counter = None if uncounted is None else _by_identity(uncounted)
        if info.shares:
            self._watch([result] if issubclass(type(result), Tensor) else [], False)
        changed = info.kind == _SET
        for tensor, version in before:
            seen = self.identity.tensors[id(tensor)]
            now = version_of(tensor)
            if now != version:
                self.states.change(op, seen, _VERSION, version, now)
                changed = True
            elif past_counter and id(tensor) in past_counter:
                self.states.change(op, seen, _WRITTEN, NONE, past_counter[id(tensor)])
                changed = True
                continue
            elif info.kind != _SET:
                continue
            if tensor is result or tensor is before[0][0] or type(tensor) not in PLAIN or not tensor._is_view():
                # (a view that only shares the counter: asking for its node would make it anew, before its time)
                self.states.compare(tensor, seen, op, since, read_saved, keeps_node=info.kind == _SET)
        if type(before) is _GradSet:
            tensor = before[0][0]
            after = self.identity.row_of(grad_of(tensor))
            self.states.change(op, self.identity.tensors[id(tensor)], _GRAD_FIELD, before.gradient, after)
        elif info.name == "Tensor.retain_grad":
            self.identity.watch_grad(self.identity.tensors[id(before[0][0])])
        return changed

    def observe_step(
        self,
        optimizer: str,
        versions: list[tuple[Any, int]],
        states: Iterable[Any],
        thread: int,
        written: list[tuple[Any, int]],
    ) -> None:
        """Record one step of an optimizer: the parameters that it updated, what is new in its state of each.

        Those of a fused one are given as written: their version counters stay as they are.
        """
        with self.lock:
            frame, text = _getframe(2), self.tape.text(f"{optimizer}.step")
            if not written and self.has_noted_step(text, versions, states, thread, frame):
                return
            self.identity.bury()
            self._turn_to(thread)
            located = self.sites.caller(frame)
            if self.full:
                self.after_limit.add(located.site.span, text)
                return
            updated = self.many.updated(versions)
            op = self._whole_call(text, _STEP, located, thread, _VERSION, updated)
            counted = {id(parameter) for parameter, _, _ in updated} if written else set()
            past = [(parameter, certainty) for parameter, certainty in written if id(parameter) not in counted]
            for parameter, certainty in past:
                self._inputs([parameter], op, False)
                self.states.change(op, self.identity.tensors[id(parameter)], _WRITTEN, NONE, certainty)
            if past:
                self.tape.update_op(op, calls=len(updated) + len(past))
            self.many.enter_new(states, op)
            if self.fingerprints is not None:
                self.fingerprints.note_op(op, optimizer, (), (), [one for one, *_ in (*updated, *past)])
            if _is_looked_at(located.site) and located.user is not None:
                self.names.match_loaded(located.site, located.user, op)

    def observe_event(
        self, kind: int, frame: FrameType, thread: int, subject: int, detail: Mapping[str, Any], tensors: Iterable[Any]
    ) -> None:
        """Record what is no call of a torch function; a frame (the user's, or one that it called) did it.

        Args:
            kind: :class:`EventKind`.
            frame: Where it was done.
            thread: Number of the thread.
            subject: Which object it is about.
            detail: What is to be known of it; JSON types only.
            tensors: What it is about; those that were not seen are entered.
        """
        with self.lock:
            if self.full and not self.after_limit.has_room_for_event():
                return
            self.identity.bury()
            held = list(tensors)
            self._enter_unknown(held)
            rows = [self.identity.row_of(tensor) for tensor in held]
            site = self.sites.locate(frame).site
            text = json.dumps(detail, sort_keys=True)
            self.tape.add_event(kind, site.span, thread, subject, text, rows)

    def observe_written_inside(self, before: list[tuple[Any, int]]) -> None:
        """Note what was written inside a call into torch's own Python that was the last to be recorded, by what no mode
        is told of: tensors, and the versions that they had before."""
        with self.lock:
            tape = self.tape
            group = self._group
            if self.full or group is None or group[1] != tape.op_count - 1:
                return
            for tensor, version in before:
                seen, now = self.identity.tensors.get(id(tensor)), version_of(tensor)
                if seen is not None and now != version:
                    self.states.change(group[1], seen, _VERSION, version, now)

    def observe_refusal(
        self, call: str, frame: FrameType, thread: int, error: str, message: str, tensors: Iterable[Any]
    ) -> None:
        """Record that torch refused a call that is no torch function; a frame made it."""
        with self.lock:
            detail = {"call": call, "error": error, "message": message, "through": self._raised.frames(frame)}
            self.observe_event(_REFUSED, frame, thread, NONE, detail, tensors)

    def observe_storage_write(self, function: str, storage: Any, thread: int, frame: FrameType) -> None:
        """Record that a method of a storage wrote it, if a tensor that lives is known on it; a frame called it."""
        with self.lock:
            self.identity.bury()
            self._turn_to(thread)
            tensor = self.identity.tensor_on(storage)
            if tensor is None:
                return
            located = self.sites.locate(frame)
            if self.full:
                self.after_limit.add(located.site.span, self.tape.text(function))
                return
            self._whole_call(self.tape.text(function), _CALL, located, thread, _WRITTEN, [(tensor, NONE, 1)])

    def observe_mode(self, function: str, thread: int, frame: FrameType) -> None:
        """Record that a mode was set which function modes are not told of; a frame set it."""
        with self.lock:
            self.identity.bury()
            located = self.sites.locate(frame)
            if self.full:
                self.after_limit.add(located.site.span, self.tape.text(function))
                return
            self._whole_call(self.tape.text(function), _MODE, located, thread, _VERSION, [])

    def observe_cleared(self, function: str, held: list[Held], thread: int, frame: FrameType) -> None:
        """Record a function of torch's that took gradients away, of those that were there before; a frame called it."""
        with self.lock:
            known = self.tape.known_text(function)
            if known is not None and self.has_noted_cleared(known, held, thread, frame):
                return
            gradients = self.many.cleared(held)
            self.identity.bury()
            self._turn_to(thread)
            located = self.sites.locate(frame)
            text = self.tape.text(located.label or function)
            if self.full:
                self.after_limit.add(located.site.span, text)
                return
            cleared = [(parameter, row, NONE) for parameter, row in gradients]
            op = self._whole_call(text, _GROUP, located, thread, _GRAD_FIELD, cleared)
            if _is_looked_at(located.site) and located.user is not None:
                self.names.match_loaded(located.site, located.user, op)

    def before_swap(self, pair: tuple[Any, Any]) -> bool:
        """Enter what is unknown of two tensors that change places, if one of them is known; returns whether it is."""
        with self.lock:
            self.identity.bury()
            if all(id(tensor) not in self.identity.tensors for tensor in pair):
                return False
            self._enter_unknown(list(pair))
            return True

    def observe_swap(self, pair: tuple[Any, Any], thread: int | None, frame: FrameType) -> None:
        """Two tensors have changed places, in a function of torch's; the thread is None where it is not recorded."""
        with self.lock:
            self.identity.exchange(*pair)
            if thread is None or self.full:
                return
            located = self.sites.locate(frame)
            op, _ = self._op(self.learn(frame.f_globals[frame.f_code.co_name]), located, thread, _modes())
            for tensor in pair:
                self._inputs([tensor], op, True)
            if located.user is not None:
                self.names.match_loaded(located.site, located.user, op)

    def _whole_call(
        self, text: int, kind: int, located: Located, thread: int, field: int, changes: list[tuple[Any, int, int]]
    ) -> int:
        """One row for a call that was looked at around the whole, with what it changed: tensors, before and after."""
        tape = self.tape
        op = tape.op_count
        tape.op_count = op + 1
        tape.ops += (text, kind, located.site.span, located.site.inner, thread, _modes(), len(changes))
        self.many.note_changes(op, field, changes, self._inputs)
        if len(tape.ops) >= tape.flush_at:
            self._flush()
        return op

    def observe_error(
        self, info: Function, located: Located, inputs: Any, before: Any, thread: int, error: BaseException
    ) -> None:
        """Record a call that has raised; the inputs are its arguments as they were given."""
        try:
            with self.lock:
                tape, site = self.tape, located.site
                self.identity.bury()
                self._turn_to(thread)
                flags = _modes() | _RAISED
                if self.full and not self.after_limit.has_room_for_error():
                    self.collectives.forget(thread)
                    self.after_limit.add(site.span, self._named(info, located)[0])
                    return
                op, _ = self._op(info, located, thread, flags)
                tape.update_op(op, flags=flags)
                self.collectives.end(op, site.span, thread)
                if self.full:
                    self._known_inputs(inputs, op)
                else:
                    self._inputs(inputs, op, bool(located.label))
                if isinstance(before, ObservedPass):
                    before.finish_raised(op)
                tape.pending["errors"] += (op, tape.text(type(error).__qualname__), tape.text(str(error)))
                if located.user is not None:
                    self._raised.note(op, located.user, thread)
                    self.names.match_loaded(site, located.user, op)
        except Exception as fault:
            if is_programs(fault):
                raise
            self.fault(info.name)

"""What one call of a torch function changed: asked of torch right before and after the call.

An error in here never reaches the program: it is kept as a fault and reported at the end.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from gradscope.recorder.calls.asked_functions import AskedFunctions
from gradscope.recorder.calls.call_rows import is_looked_at, modes_in_force
from gradscope.recorder.calls.collective_calls import detail_of, whole_of
from gradscope.recorder.calls.faults import is_programs
from gradscope.recorder.calls.module_looks import ModuleLooks
from gradscope.recorder.calls.plain_factors import ATTENTION, TAKES_FACTOR, dropped_share, plain_factor
from gradscope.recorder.calls.torch_functions import (
    Function,
)
from gradscope.recorder.calls.whole_calls import WholeCalls
from gradscope.recorder.naming.last_statements import calls_to
from gradscope.recorder.naming.seen_names import FULL_MATCHES, SeenNames
from gradscope.recorder.naming.unseen_tensors import Unseen
from gradscope.recorder.places.call_sites import Site
from gradscope.recorder.places.callers import CallPlace, CallSites, Located
from gradscope.recorder.places.code_owners import Owner
from gradscope.recorder.places.frames_around import FramesAround
from gradscope.recorder.repetition.forgetting import Forgetting
from gradscope.recorder.state.backward_passes import ObservedPass, PassObserver
from gradscope.recorder.state.births import ForwardBirths
from gradscope.recorder.state.derivatives_of_forwards import note_derivatives
from gradscope.recorder.state.fingerprints import Fingerprints
from gradscope.recorder.state.graph_nodes import GraphNodes
from gradscope.recorder.state.identity import Identity
from gradscope.recorder.state.kept_forwards import KeptForwards
from gradscope.recorder.state.module_numbers import number_of_module
from gradscope.recorder.state.moves import Moves
from gradscope.recorder.state.numpy_arrays import NumpyArrays
from gradscope.recorder.state.tensors_in import BORING, PLAIN, arguments_of, grad_of, tensors_in, version_of
from gradscope.recorder.state.values_and_memory import AllocatorFigures, Values
from gradscope.recorder.tape import Tape
from gradscope.recording.rows import EventKind, Field, OpFlag, OpKind
from gradscope.recording.tables import NONE

_SETS_GRAD = ("Tensor.grad.__set__", "Tensor.grad.__delete__")
_SETS_REQUIRES_GRAD = ("Tensor.requires_grad.__set__", "Tensor.requires_grad_")
_CALL, _SET, _GROUP, _COLLECTIVE = (int(kind) for kind in (OpKind.CALL, OpKind.SET, OpKind.GROUP, OpKind.COLLECTIVE))
_PASSES = (int(OpKind.BACKWARD), int(OpKind.GRAD))
_DIRECT_FORWARD, _FACTOR = int(EventKind.DIRECT_FORWARD), int(EventKind.FACTOR)
_RAISED, _HOOKED = int(OpFlag.RAISED), int(OpFlag.HOOKED)
_TRACKING = int(OpFlag.GRAD) | int(OpFlag.INFERENCE)
"""Without both, what an op gives may come to be tracked: an inference tensor never does."""
_VERSION, _GRAD_FIELD, _WRITTEN = int(Field.VERSION), int(Field.GRAD), int(Field.WRITTEN)
_DIRECT_FORWARDS = 256
"""Direct calls of ``forward`` that are noted, each once for a module and a place."""
_getframe = sys._getframe


def _freezes(info: Function, tensor: Any) -> bool:
    """Whether a call switched requires_grad off; a subclass is not asked, which may run code of the program's."""
    return info.name in _SETS_REQUIRES_GRAD and type(tensor) in PLAIN and not tensor.requires_grad


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


class Observer(WholeCalls):
    """Turns calls of torch functions into rows, before and after each."""

    __slots__ = ("values",)

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
        super().__init__(tape, identity, graph, sites, names, max_ops, fingerprints)
        self.passes = PassObserver(tape, self.states, self.many, looks_for_births, fingerprints)
        self.asked = AskedFunctions(sites.owners, self.learn)
        self.arrays = NumpyArrays(tape)
        self.values: Values | None = None
        self.module_looks = ModuleLooks(self)
        self.forwards = KeptForwards(identity, sites.owners, self._function_of)
        self.forgetting: Forgetting | None = None
        """Takes out what came again alike, where that was asked for."""
        self._births = ForwardBirths(tape, identity) if looks_for_births else None
        self._frozen = FramesAround(tape, sites, EventKind.FROZEN)
        self._direct_forwards: set[tuple[int, int]] = set()
        self._dropping: set[Site] = set()
        sites.note_direct_forward = self._note_direct_forward
        self._unseen = Unseen(tape, self.states, sites, names, lambda tensor: self._watch([tensor], False))
        self._device_memory = AllocatorFigures(tape)
        self._has_cuda = torch.cuda.is_available()
        self._is_asked_more = self._has_cuda or looks_for_births or fingerprints is not None

    def silence(self) -> None:
        """Record nothing more: this process is a fork, in which a thread that held the lock does not exist."""
        self.muted = True
        self.lock = threading.RLock()

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

    def enter_rest(self, namespace: Mapping[str, Any], filename: str) -> None:
        """Enter what is unknown of a module's tensors when its program, the recording's first thread, is over.

        After the limit a seen call may have made them as well, which was counted.
        """
        if self.full:
            return
        self._turn_to(0)
        self._unseen.enter_rest(namespace, filename, modes_in_force(), self.may_read_saved)
        self._note_derivatives(0)

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
                if unknown := [one for one in tensors if id(one) not in self.identity.tensors]:
                    self._watch(unknown, False)  # (torch.from_numpy(array).requires_grad_())
                if info.name in _SETS_GRAD:
                    known = _GradSet((tensor, version_of(tensor)) for tensor in tensors)
                    known.gradient = self.identity.row_of(grad_of(tensors[0]))
                    return known
        return [(tensor, version_of(tensor)) for tensor in tensors]

    def _take_up(self, root: Any, located: Located, thread: int) -> None:
        """Enter what a Function's ``apply`` made, from which a pass is to start: by its name, or at the pass."""
        flags = modes_in_force()
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
        flags = modes_in_force() | located.below
        read_saved = not flags & _HOOKED
        site, user = located.site, located.user
        matching = is_looked_at(site)
        if user is not None and (matching or site.meets_unseen or self._came_to_be_tracked(args, kwargs)):
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
                    seen = self.states.enter(tensor, op, since, read_saved, 0, inputs)
                    if not flags & _TRACKING and seen.requires_grad is False:
                        seen.requires_grad = None
                        identity.has_unsure = True
                else:
                    tape.pending["results"] += (op, seen.row)
                touched = True
        if before is not None:
            if info.kind in _PASSES:
                before.finish(op, result, site.span)
                self._note_derivatives(thread)
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
            if not flags & _TRACKING or self.forwards.is_open:
                self.forwards.note(info, user, args, kwargs, result, site.span)
            self.names.match_loaded(site, user, op)
            if info.name in TAKES_FACTOR and not grouped:
                self._note_factor(info.name, args, kwargs, result, site.span, op, thread)
            elif info.name == ATTENTION and not grouped:
                self._note_dropped(site, args, kwargs, op, thread)
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

    def _function_of(self, info: Function) -> Any:
        """The function of torch's own that is described; None where it is a wrapper of the program's or not known."""
        found = next((function for function, known in self.functions.items() if known is info), None)
        is_programs = info.code is not None and self.sites.owners.of(info.code) is Owner.USER
        return None if is_programs else found

    def _note_derivatives(self, thread: int) -> None:
        """Compare what backward passes had from the user's Functions with autograd's own, now that they are over."""
        while (kept := self.forwards.take_done()) is not None:
            if note_derivatives(kept, self.tape, thread):
                self.forwards.settle(kept)

    def _came_to_be_tracked(self, args: Any, kwargs: Any) -> bool:
        """Whether an op takes what was made without grad mode and is tracked now: a custom Function gave it."""
        if not self.identity.has_unsure:
            return False
        known = self.identity.tensors
        for tensor in arguments_of(args, kwargs):
            seen = known.get(id(tensor))
            if seen is not None and seen.requires_grad is None and type(tensor) in PLAIN and tensor.requires_grad:
                return True
        return False

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
        for one in (
            self.identity,
            self.states.graph,
            self.foreign,
            self.wrapped,
            self.arrays,
            self.names,
            self.module_looks,
        ):
            one.move(moves)
        tensors, ops = moves["tensors"], moves["ops"]
        self.forwards.drop()
        self._group_uses = {tensors(row) for row in self._group_uses}
        self._group_begun = tensors(self._group_begun)
        if self._group is not None:
            self._group = (self._group[0], ops(self._group[1]), self._group[2])

    def _note_extras(self, result: Any, before: Any, span: int, op: int) -> None:
        results = tensors_in(result)
        for tensor in results if self._has_cuda else ():
            self._device_memory.note(tensor, span, op)
        if self.values is not None:
            for tensor in _results(result, before):
                self.values.note(tensor, self.identity.row_of(tensor), op)

    def _note_factor(self, name: str, args: Any, kwargs: Any, result: Any, span: int, op: int, thread: int) -> None:
        factor = plain_factor(name, args, kwargs)
        if factor is not None and type(result) in PLAIN and (result.is_leaf or not result.requires_grad):
            self.tape.add_event(_FACTOR, span, thread, op, json.dumps({"by": factor}), [])

    def _note_dropped(self, site: Site, args: Any, kwargs: Any, op: int, thread: int) -> None:
        share = dropped_share(args, kwargs)
        if share > 0:
            self._dropping.add(site)
            self.tape.add_event(_FACTOR, site.span, thread, op, json.dumps({"drops": share}), [])

    def look_at_dropping(self) -> None:
        """Look again at what drops by itself: a mode was set that it may not follow."""
        with self.lock:
            for site in self._dropping:
                site.seen = min(site.seen, FULL_MATCHES - 1)

    def _note_births(self, result: Any, before: Any, inputs: Any, span: int, op: int, thread: int) -> None:
        self._births.note(op, span, thread, tensors_in(inputs), _results(result, before))  # type: ignore[union-attr]

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

    def _known_inputs(self, value: Any, op: int) -> None:
        """Note those of the tensors in an argument that were seen before."""
        for tensor in tensors_in(value):
            row = self.identity.row_of(tensor)
            if row != NONE:
                self._uses += (op, row)

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
            self.wrapped.wrap(result, NONE, op)
        changed = info.kind == _SET
        for tensor, version in before:
            seen = self.identity.tensors[id(tensor)]
            now = version_of(tensor)
            if now != version:
                self.states.change(op, seen, _VERSION, version, now)
                changed = True
                if self.wrapped:
                    self.wrapped.written(tensor, seen.row, op, self._thread)
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

    def observe_error(
        self, info: Function, located: Located, inputs: Any, before: Any, thread: int, error: BaseException
    ) -> None:
        """Record a call that has raised; the inputs are its arguments as they were given."""
        try:
            with self.lock:
                tape, site = self.tape, located.site
                self.identity.bury()
                self._turn_to(thread)
                flags = modes_in_force() | _RAISED
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

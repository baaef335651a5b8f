"""What is no call that a function mode is told of, or is looked at around the whole: a patch hands it over."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import Any

from gradscope.recorder.calls.call_rows import CallRows, is_looked_at, modes_in_force
from gradscope.recorder.calls.waiting_collectives import WaitingCollectives
from gradscope.recorder.naming.seen_names import SeenNames
from gradscope.recorder.places.callers import CallSites
from gradscope.recorder.places.frames_around import FramesAround
from gradscope.recorder.state.fingerprints import Fingerprints
from gradscope.recorder.state.graph_nodes import GraphNodes
from gradscope.recorder.state.identity import Identity
from gradscope.recorder.state.many_tensors import Held
from gradscope.recorder.state.tensors_in import version_of
from gradscope.recorder.state.wrapped_arrays import WrappedArrays
from gradscope.recorder.tape import Tape
from gradscope.recording.rows import EventKind, Field, OpFlag, OpKind
from gradscope.recording.tables import NONE

_CALL, _MODE, _GROUP, _STEP, _COLLECTIVE = (
    int(kind) for kind in (OpKind.CALL, OpKind.MODE, OpKind.GROUP, OpKind.STEP, OpKind.COLLECTIVE)
)
_REFUSED = int(EventKind.REFUSED)
_RAISED = int(OpFlag.RAISED)
_VERSION, _GRAD_FIELD, _WRITTEN = int(Field.VERSION), int(Field.GRAD), int(Field.WRITTEN)
_getframe = sys._getframe


def _is_left(*_: object) -> bool:
    """Where there is no native core."""
    return False


class WholeCalls(CallRows):
    """Records steps of optimizers, ``zero_grad``, swaps, collectives and whatever else patches report."""

    __slots__ = ()

    def __init__(
        self,
        tape: Tape,
        identity: Identity,
        graph: GraphNodes,
        sites: CallSites,
        names: SeenNames,
        max_ops: int | None = None,
        fingerprints: Fingerprints | None = None,
    ) -> None:
        super().__init__(tape, identity, graph, sites, names, max_ops)
        self.fingerprints = fingerprints
        self.collectives = WaitingCollectives(tape)
        self.wrapped = WrappedArrays(tape)
        self.has_noted_step: Callable[..., bool] = _is_left
        self.has_noted_cleared: Callable[..., bool] = _is_left
        """The native core's, which note the usual ones."""
        self._raised = FramesAround(tape, sites, EventKind.RAISED)

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
            tape.update_op(op, calls=1, flags=modes_in_force() | (_RAISED if error is not None else 0))
            if error is not None:
                tape.pending["errors"] += (op, tape.text(type(error).__qualname__), tape.text(str(error)))
            self.collectives.end(op, located.site.span, thread)

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
            if is_looked_at(located.site) and located.user is not None:
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

    def observe_wrapped(self, tensor: Any, frame: FrameType) -> None:
        """Note that a tensor was put on an array, by a call of a frame that is no op."""
        with self.lock:
            if not self.full:
                self.wrapped.wrap(tensor, self.sites.locate(frame).site.span, NONE)

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
            if is_looked_at(located.site) and located.user is not None:
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
            op, _ = self._op(self.learn(frame.f_globals[frame.f_code.co_name]), located, thread, modes_in_force())
            for tensor in pair:
                self._inputs([tensor], op, True)
            if located.user is not None:
                self.names.match_loaded(located.site, located.user, op)

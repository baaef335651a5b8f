"""Tensors that no seen op made, found by the names that hold them.

The function mode does not see ``Function.apply``, ``torch.from_numpy`` or ``nn.Parameter(…)``. What they made turns up
as an unknown input, or as an unknown value of a name that a statement stored; it is put down to the call that the name
was assigned from, as an op with the flag MADE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from torch import Tensor

from gradscope.frames.frame_locals import reading_locals
from gradscope.recorder.naming.calls_into_forwards import AppliedFunctions
from gradscope.recorder.naming.instance_attributes import is_one_of
from gradscope.recorder.naming.last_statements import calls_to
from gradscope.recorder.naming.seen_names import SeenNames, is_user_name, look_up
from gradscope.recorder.places.call_sites import Site
from gradscope.recorder.places.callers import CallSites
from gradscope.recorder.state.identity import Identity
from gradscope.recorder.state.tensor_states import TensorStates
from gradscope.recorder.state.tensors_in import PLAIN, version_of
from gradscope.recorder.tape import Tape
from gradscope.recording.flags import CALL_OP, EXTERNAL, GRAD, HOOKED, MADE
from gradscope.recording.tables import NONE

CALLERS = 8
"""User frames above the op's in which the name of an unknown tensor is looked for."""


class Unseen:
    """Enters what unseen calls made.

    Args:
        tape: Where rows go.
        states: What is known of tensors.
        sites: Whose calls are where.
        names: What names held.
        on_made: Called with each tensor that is entered so.
    """

    def __init__(
        self, tape: Tape, states: TensorStates, sites: CallSites, names: SeenNames, on_made: Callable[[Any], None]
    ) -> None:
        self._tape = tape
        self._states = states
        self._identity: Identity = states.identity
        self._sites = sites
        self._names = names
        self._on_made = on_made
        self._changed_by_op: set[int] = set()
        self._entered = False
        self._below: dict[Site, Site] = {}
        """By a caller's site that of the last op below it."""
        self._calls: dict[tuple[int, str], tuple[str, int] | None] = {}
        """By site and kind of node the call that made what an op there took, in the runs in which it was found; None
        where there were several."""
        self._applied = AppliedFunctions()

    def announce(
        self,
        site: Site,
        user: FrameType,
        inputs: list[Any],
        mutable: Sequence[tuple[Any, int]],
        thread: int,
        flags: int,
        read_saved: bool,
    ) -> None:
        """Match what the frame's last statement stored, and enter the unknown among that and among the inputs.

        Args:
            site: Where the op is called.
            user: The user's frame.
            inputs: The op's tensors.
            mutable: Tensors that the op may have changed, and their versions before: what it did is no news.
            thread: Number of the thread.
            flags: The modes in force.
            read_saved: No saved-tensor hooks were in force at the last op.
        """
        read_saved = read_saved and not flags & HOOKED
        self._changed_by_op = {id(tensor) for tensor, version in mutable if version_of(tensor) != version}
        self._entered = False
        calls = calls_to(user)
        self._names.forget_ended(calls[id(user)])
        callers = list(self._callers(user, site))
        if not flags & GRAD:
            self._applied.note(callers, thread)
        frames = [(frame, at, self._names.stored_since(calls[id(frame)], at)) for frame, at in callers]
        for frame, at, stored in frames:
            if stored is not None:
                self._look_at(stored[0].statement.stores, frame, at, stored[0], site, thread, flags, read_saved)
        for frame, at, stored in frames:
            if not any(self._is_news(tensor) for tensor in inputs):
                break
            stored_by = stored[0] if stored is not None else None
            wanted = (*at.statement.loads, *self._sites.parts_stored_before(at, stored_by))
            self._look_at(wanted, frame, at, stored_by, site, thread, flags, read_saved)
        self._enter_as_before(site, inputs, thread, flags, read_saved)
        for frame, at, stored in frames:
            if stored is not None:
                self._names.match_stored(*stored, frame, at)
            if frame is not user:
                self._names.match_loaded(at, frame, self._tape.op_count, calls[id(frame)])
                self._below[at] = site
        if self._entered and site.seen > 1:  # (in the first run it may have been made long before)
            site.meets_unseen = True
            for _, _, stored in frames:
                if stored is not None:
                    stored[0].meets_unseen = True
                    # (a statement that calls no op itself is known from the ops below it)
                    self._below.get(stored[0], stored[0]).meets_unseen = True

    def enter_rest(self, namespace: Mapping[str, Any], filename: str, flags: int, read_saved: bool) -> None:
        """Enter what is unknown of a module's tensors when its program is over: ``y = Square.apply(x)`` at its end.

        Args:
            namespace: The module's.
            filename: Its file.
            flags: The modes in force.
            read_saved: No saved-tensor hooks were in force at the last op.
        """
        self._changed_by_op = set()
        for name, tensor in list(namespace.items()):
            if not is_one_of(type(tensor), PLAIN) or not is_user_name(name) or not self._is_news(tensor):
                continue
            call = self._sites.call_at_end(name, filename)
            if call is not None:
                written, span = call
                self._enter(tensor, self._add_op(tensor, written, span, 0, flags), read_saved)
            elif id(tensor) not in self._identity.tensors:
                since = self._states.graph.begun
                self._states.enter(tensor, self._tape.op_count, since, read_saved, EXTERNAL, ())

    def _callers(self, user: FrameType, site: Site) -> Iterator[tuple[FrameType, Site]]:
        """The user's frames that lead to an op, innermost first, with the sites they are at."""
        yield user, site
        frame, left = user.f_back, CALLERS
        while frame is not None and left:
            at = self._sites.user_site(frame)
            if at is not None:
                yield frame, at
                left -= 1
            frame = frame.f_back

    def _look_at(
        self,
        wanted: tuple[str, ...],
        frame: FrameType,
        site: Site,
        stored_by: Site | None,
        taken_at: Site,
        thread: int,
        flags: int,
        read_saved: bool,
    ) -> None:
        with reading_locals(frame) as names:
            for name in wanted:
                tensor = look_up(self._found_under(name, site, stored_by), names, frame.f_globals)
                if issubclass(type(tensor), Tensor) and self._is_news(tensor):
                    call = self._applied.call_behind(tensor, thread, self._call_behind(name, site, stored_by))
                    if call is not None:
                        self._know_call(taken_at, tensor, call)
                        self._enter_made(tensor, call, thread, flags, read_saved)
                        if stored_by is None or name not in stored_by.statement.stores:  # (no op's: nothing waits)
                            self._names.match_made(name, tensor, self._tape.op_count, call[1], site.function)

    def _enter_as_before(self, site: Site, inputs: list[Any], thread: int, flags: int, read_saved: bool) -> None:
        """Enter what no name led to in this run: names are looked at in some runs only."""
        for tensor in inputs:
            if self._is_news(tensor):
                if type(tensor) in PLAIN and not tensor.is_leaf:
                    known = self._calls.get((id(site), _kind_of_node(tensor)))
                    call = self._applied.call_behind(tensor, thread, known)
                    if call is not None:
                        if call != known:
                            self._know_call(site, tensor, call)
                        self._enter_made(tensor, call, thread, flags, read_saved)
                seen = self._identity.tensors.get(id(tensor))
                if seen is not None and seen.requires_grad is None:
                    seen.requires_grad = False  # (nothing tells where it came to be tracked: it is not asked again)

    def _know_call(self, taken_at: Site, tensor: Any, call: tuple[str, int]) -> None:
        key = (id(taken_at), _kind_of_node(tensor))
        self._calls[key] = call if self._calls.get(key, call) == call else None

    def _enter_made(self, tensor: Any, call: tuple[str, int], thread: int, flags: int, read_saved: bool) -> None:
        written, span = call
        seen = self._identity.tensors.get(id(tensor))
        if seen is None or seen.requires_grad is not None:
            self._entered = True  # (the others are asked whenever they go into an op)
        self._enter(tensor, self._add_op(tensor, written, span, thread, flags), read_saved)

    def _found_under(self, name: str, site: Site, stored_by: Site | None) -> str:
        """The name that has now what a frame's last statement stored under a name; that itself if it stored no such."""
        if stored_by is None or name not in stored_by.statement.stores:
            return name
        return self._sites.found_under(name, stored_by, site)

    def _call_behind(self, name: str, site: Site, stored_by: Site | None) -> tuple[str, int] | None:
        """The call that a name was assigned from, which a frame at a site has; its last op was at another."""
        if stored_by is None:
            return self._sites.call_assigned_to(name, site, 0)
        call = None
        if name in stored_by.statement.stores:
            call = self._sites.call_stored_by(name, stored_by, site)
        return call or self._sites.call_assigned_to(name, site, stored_by.statement.line)

    def _is_news(self, tensor: Any) -> bool:
        """Whether a tensor was not seen yet, or came to have a ``grad_fn`` since."""
        seen = self._identity.tensors.get(id(tensor))
        if seen is None:
            return True
        if id(tensor) in self._changed_by_op:
            return False
        if seen.node != NONE or type(tensor) not in PLAIN:
            return False
        if tensor._is_view() and version_of(tensor) != getattr(seen, "first_version", 0):
            return False  # (asking a view for its node can raise, or rebuild it, once its memory was written)
        return bool(tensor.requires_grad and not tensor.is_leaf)

    def _add_op(self, tensor: Any, written: str, span: int, thread: int, flags: int) -> int:
        tracked = type(tensor) in PLAIN and tensor.requires_grad
        node = tensor.grad_fn if tracked else None
        if node is not None:
            flags |= GRAD  # (it may be found in the midst of a region that began later)
        forward = getattr(node, "_forward_cls", None)
        function = f"{forward.__name__}.apply" if forward is not None else written
        return self._tape.add_op(self._tape.text(function), CALL_OP, span, NONE, thread, flags | MADE)

    def _enter(self, tensor: Any, op: int, read_saved: bool) -> None:
        # A Function's node is numbered before what its forward runs, so newer than the last op would be too strict.
        since = self._states.graph.begun
        seen = self._identity.tensors.get(id(tensor))
        if seen is None:
            self._states.enter(tensor, op, since, read_saved, 0, ())
            self._on_made(tensor)
        else:
            self._tape.pending["results"] += (op, seen.row)
            self._identity.leaves.pop(seen.row, None)
            self._states.compare(tensor, seen, op, since, read_saved)


def _kind_of_node(tensor: Any) -> str:
    """The name of its node's class: the class itself is the program's where a Function of its own gave the tensor."""
    return type(tensor.grad_fn).__name__ if type(tensor) in PLAIN and tensor.requires_grad else ""

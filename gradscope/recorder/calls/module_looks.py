"""In which module a call runs: looked at as long as there is something new, the first pass through a model above all.

The frames say it: the innermost call of a module that is under way. Each look costs some microseconds, so calls are
looked at only for a while after an instruction or a module was met for the first time; then this is in nobody's way.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from itertools import pairwise
from types import FrameType
from typing import Any, Protocol

from torch import nn

from gradscope.frames.frame_locals import reading_locals
from gradscope.recorder.naming.wrappers import wrapped_name
from gradscope.recorder.places.callers import CallSites
from gradscope.recorder.state.identity import Identity
from gradscope.recorder.state.moves import Moves
from gradscope.recorder.tape import Tape
from gradscope.recording.tables import NONE

AFTER_NEW = 32
"""Calls that are looked at after something new was met."""
FRAMES = 48
"""Frames above a call in which a module's is looked for."""
_CALLS = nn.Module._wrapped_call_impl.__code__
_FORWARD = "forward"


class Observing(Protocol):
    """What records calls: the observer."""

    tape: Tape
    identity: Identity
    sites: CallSites


class ModuleLooks:
    """Looks at the calls that an observer records.

    Args:
        observer: Whose method ``observe`` this stands for while it looks.
    """

    def __init__(self, observer: Observing) -> None:
        self._observer = observer
        self._known: dict[int, tuple[weakref.ref[nn.Module], int]] = {}
        """By ``id``: a module may have no hash, or one of its own."""
        self._called: set[int] = set()
        """Modules of which the line that called them is noted."""
        self._parents: list[int] = []
        self._noted: set[tuple[int, int]] = set()
        self._left = 0

    def go_on(self) -> None:
        """Look at some calls more: something new was met."""
        self._left = AFTER_NEW
        vars(self._observer)["observe"] = self._observe

    def move(self, moves: Moves) -> None:
        """Know modules and tensors by their new rows: a program that makes modules in a loop repeats these as well."""
        modules, tensors = moves["modules"], moves["tensors"]
        self._known = {key: (module, modules(row)) for key, (module, row) in self._known.items()}
        self._called = {modules(row) for row in self._called}
        self._noted = {(modules(module), tensors(tensor)) for module, tensor in self._noted}
        del self._parents[modules.start : modules.stop]
        self._parents = [NONE if parent == NONE else modules(parent) for parent in self._parents]

    def _observe(self, *call: Any) -> None:
        observer = self._observer
        before = observer.tape.op_count
        type(observer).observe(observer, *call)  # type: ignore[attr-defined]
        self._left -= 1
        if self._left <= 0:
            vars(observer).pop("observe", None)
        if observer.tape.op_count == before + 1:
            self._look(before)

    def _look(self, op: int) -> None:
        called = next(_calls_above(sys._getframe(2), FRAMES), None)
        if called is None:
            return
        module, frame = called
        row = self._row_of(module)
        if row is None:
            row = self._enter(module, frame, op)
        if row not in self._called:
            self._note_calls(frame)
            self.go_on()
        self._observer.tape.pending["module_ops"] += (op, row)

    def _row_of(self, module: nn.Module) -> int | None:
        held = self._known.get(id(module))
        return held[1] if held is not None and held[0]() is module else None

    def _enter(self, module: nn.Module, frame: FrameType, op: int) -> int:
        """Enter the modules that are being called, and all of which they are made."""
        under_way = [module, *(known for known, _ in _calls_above(frame))]
        for one in reversed(under_way):
            if self._row_of(one) is None:
                self._enter_tree(one, op)
        rows = [row for one in under_way if (row := self._row_of(one)) is not None]
        for row, parent in pairwise(rows):
            if self._parents[row] == NONE and row not in self._ways_up(parent):
                self._adopt(row, parent)  # the other holds it in a list of its own
        return rows[0]

    def _enter_tree(self, root: nn.Module, op: int) -> None:
        tape = self._observer.tape
        todo: list[tuple[nn.Module, int, str]] = [(root, NONE, "")]
        while todo:
            module, parent, name = todo.pop()
            row = self._row_of(module)
            if row is not None:
                if self._parents[row] == NONE and parent != NONE and row not in self._ways_up(parent):
                    self._adopt(row, parent, name)
                continue
            row = len(self._parents)
            self._known[id(module)] = (weakref.ref(module), row)
            self._parents.append(parent)
            tape.pending["modules"] += (op, parent, tape.text(name), tape.text(type(module).__name__), NONE)
            self._note_parameters(module, row)
            wrapped, children = wrapped_name(module), vars(module).get("_modules", {}).items()
            todo += [(one, row, "" if name == wrapped else name) for name, one in reversed(children) if one is not None]

    def settle(self) -> None:
        """Note what was not known when modules were met: tensors that names were found for since."""
        for held, row in list(self._known.values()):
            module = held()
            if module is not None:
                self._note_parameters(module, row)

    def _note_parameters(self, module: nn.Module, row: int) -> None:
        """Those that were seen at all: what nobody has a name for, and no call took in, is nobody's concern."""
        tape, known = self._observer.tape, self._observer.identity.tensors
        for name, tensor in vars(module).get("_parameters", {}).items():
            seen = known.get(id(tensor))
            if seen is not None and (row, seen.row) not in self._noted:
                self._noted.add((row, seen.row))
                tape.pending["module_tensors"] += (row, seen.row, tape.text(name))

    def _adopt(self, row: int, parent: int, name: str = "") -> None:
        """A module that was entered as nobody's turns out to be part of another."""
        self._parents[row] = parent
        self._observer.tape.update("modules", row, parent=parent, name=self._observer.tape.text(name))

    def _ways_up(self, row: int) -> Iterator[int]:
        while row != NONE:
            yield row
            row = self._parents[row]

    def _note_calls(self, frame: FrameType) -> None:
        """Note the user's lines that called the modules that are at work, each itself or through a library."""
        for module, call in _calls_above(frame):
            row = self._row_of(module)
            if row is not None and row not in self._called:
                self._called.add(row)
                self._observer.tape.update("modules", row, span=self._span_above(call))

    def _span_above(self, frame: FrameType) -> int:
        caller = frame.f_back
        while caller is not None:
            site = self._observer.sites.user_site(caller)
            if site is not None:
                return site.span
            caller = caller.f_back
        return NONE


def _called_in(frame: FrameType) -> nn.Module | None:
    """The module of which a frame is the call, or the ``forward``, which may have been called without it."""
    return _module_of(frame) if frame.f_code is _CALLS or frame.f_code.co_name == _FORWARD else None


def _module_of(frame: FrameType) -> nn.Module | None:
    with reading_locals(frame) as names:
        module = names.get("self")
    return module if isinstance(module, nn.Module) else None


def _calls_above(frame: FrameType, frames: int = sys.maxsize) -> Iterator[tuple[nn.Module, FrameType]]:
    """The calls of modules that are under way, that of a frame and those around it, the innermost first.

    A ``forward`` is a call of its own where no call of a module runs it: else that stands for it, also where a module
    was given the ``forward`` of another.
    """
    met: tuple[nn.Module, FrameType] | None = None
    current: FrameType | None = frame
    while current is not None and frames:
        module = _called_in(current)
        if module is not None:
            is_call = current.f_code is _CALLS
            if met is not None and not is_call and met[0] is not module:
                yield met
            met = None if is_call else (module, current)
            if is_call:
                yield module, current
        current, frames = current.f_back, frames - 1
    if met is not None:
        yield met

"""The hooks that a program registered, as its recording has them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gradscope.analysis.facts.derivatives.function_sources import Lines
from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.index import Index
from gradscope.frames.called_by_torch.hook_source import HookSource
from gradscope.frames.calls.reached_functions import called_at, function_named
from gradscope.frames.names.given_names import function_around
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind, OpKind


@dataclass(eq=False, repr=False)
class RegisteredHook:
    """All that one line registered of one code."""

    index: Index
    registered: list[Happened] = field(default_factory=list)
    did: dict[str, Any] = field(default_factory=dict)
    """What those on tensors did."""
    leaves: tuple[int, ...] = ()
    """The leaves whose gradients were looked at around it."""

    @property
    def kind(self) -> str:
        """``tensor``, ``accumulated``, ``forward``, ``forward_pre``, ``backward``, ``backward_pre``."""
        return str(self.registered[0].detail.get("hook", ""))

    @property
    def name(self) -> str:
        """The hook's name in a sentence."""
        function = str(self.registered[0].detail.get("function", ""))
        return "a lambda" if function == "<lambda>" else function

    @property
    def is_on_tensor(self) -> bool:
        """Whether it is on tensors, where what it did is known."""
        return self.kind in ("tensor", "accumulated")

    def count(self, what: str) -> int:
        """A number of what it did; 0 where it is not known."""
        value = self.did.get(what, 0)
        return value if isinstance(value, int) else 0

    @cached_property
    def _place(self) -> tuple[int, int]:
        """File and first line of its code; NONE and 0 where a file that was changed by hand has none."""
        place, recording = self.registered[0].detail.get("place"), self.index.recording
        if not isinstance(place, int) or not 0 <= place < len(recording.spans):
            return NONE, 0
        return recording.spans[place].file, recording.spans[place].line

    @cached_property
    def source(self) -> HookSource:
        """Its source."""
        file, line = self._place
        text = self.index.recording.files[file].text if file >= 0 else ""
        return HookSource(text, line, str(self.registered[0].detail.get("function", "")))

    def has_call(self, span: int) -> bool:
        """Whether a call stands in its code, and in no function within it."""
        (file, line), call = self._place, self.index.recording.spans[span]
        return call.file == file and function_around(self.index.recording.files[file].text, call.line)[0] == line

    def ops_at(self, first: int, last: int) -> list[int]:
        """The ops, in order, of calls that stand at some lines of its file."""
        index, file = self.index, self._place[0]
        wanted = {
            number for number, one in enumerate(index.statements) if one.file == file and first <= one.line <= last
        }
        return [op for op, statement in enumerate(index.op_statement) if statement in wanted] if wanted else []

    @property
    def whole(self) -> Lines | None:
        """The lines of its code; None where that is not found."""
        found = self.source.whole
        return self.lines(*found) if found is not None else None

    def lines(self, first: int, last: int) -> Lines:
        """Lines of its file."""
        return Lines(
            self._place[0],
            self.index.line(self._place[0], first),
            last,
            str(self.registered[0].detail.get("function", "")),
        )


class RegisteredHooks:
    """The hooks of one recording."""

    def __init__(self, index: Index, events: Events) -> None:
        self._index = index
        self._events = events

    @cached_property
    def all(self) -> list[RegisteredHook]:
        """Each with a place in the user's code, in the order in which they were first registered."""
        found: dict[int, RegisteredHook] = {}
        for event in self._events.of(EventKind.HOOK):
            if event.span >= 0:
                found.setdefault(event.subject, RegisteredHook(self._index)).registered.append(event)
        for event in self._events.of(EventKind.HOOK_RUNS):
            if event.subject in found:
                found[event.subject].did, found[event.subject].leaves = event.detail, event.tensors
        return list(found.values())

    def returns_around(self, op: int) -> list[Lines]:
        """Where a forward hook returns something, of one whose code runs an op, or calls the function that does.

        What such a hook returns takes the place of the output, also where it was made for keeping: ``return kept``.
        """
        index, hooks = self._index, [hook for hook in self.all if hook.kind == "forward"]
        where = index.statements[index.op_statement[op]]
        if not hooks or where.file < 0:
            return []
        name = function_named(index.recording.text(where.function))
        text = index.recording.files[where.file].text
        for hook in hooks:
            own = hook.source.returns
            if hook.name == name:
                return [hook.lines(*lines) for lines in own]
            if own and name in called_at(text, *own[0]):
                first = function_around(text, where.line)[0]
                return [hook.lines(*lines) for lines in HookSource(text, first, name).returns]
        return []

    @cached_property
    def may_take_gradients(self) -> bool:
        """Whether hooks ran once gradients were there: a step in the middle of the pass takes them away again."""
        return any(hook.kind == "accumulated" and hook.count("runs") for hook in self.all)

    @cached_property
    def pass_ops(self) -> list[int]:
        """The ops that were backward passes."""
        return self._index.of_kind(OpKind.BACKWARD, OpKind.GRAD)

    def passes_before(self, op: int) -> int:
        """How many passes had run when so many ops had been seen."""
        return bisect_left(self.pass_ops, op)

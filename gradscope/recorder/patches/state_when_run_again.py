"""What a checkpointed function finds of state that is no tensor, when it runs and when backward runs it again.

Numbers and texts on the modules and objects that it can reach (``self.temperature``), lists to which it appends tensors
with a graph, and attributes that hold such a tensor. Looked at for the first runs of each module only, and nothing but
numbers, texts and identities is kept.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gradscope.recorder.calls.faults import is_programs
from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.tape import Tape
from gradscope.recording.rows import EventKind

_RERUN_STATE = int(EventKind.RERUN_STATE)

RUNS = 3
"""Runs of one module, or of one function, that are looked at."""
IN_ALL = 256
_DEPTH = 3
_PARTS = 64
_PLAIN = (int, float, bool, str)
_VALUES = 6
"""Pairs of values that are kept of one name."""
_INTERNAL = frozenset(vars(nn.Module()))
_GLOBALS = ""
"""What stands for the class of an object where a name is one of a file's own."""


class _FoundThere(NamedTuple):
    owner: str
    """The class of the object."""
    plain: Any = None
    """A number or a text."""
    identity: int = 0
    """Of a list, or of a tensor with a graph."""
    length: int = -1
    """Of the list; -1 for a tensor."""
    is_tracked: bool = False
    """The tensor has a graph, or the last one in the list."""

    def differs(self, other: _FoundThere) -> bool:
        """Whether another look found something else; NaN is not equal to itself."""
        return self != other and not (self.plain != self.plain and other.plain != other.plain)


_State = dict[tuple[int, str], _FoundThere]


class _RerunsSeen:
    """What is known in one recording."""

    def __init__(self) -> None:
        self.looked_at: Counter[int] = Counter()
        self.found: dict[int, dict[str, dict[tuple[str, str], dict[tuple[_FoundThere, _FoundThere], None]]]] = {}
        """By span of the call of checkpoint: of each sort, what it was found of, and what it was at first and then."""
        self.left: dict[tuple[int, str], tuple[int, _FoundThere]] = {}
        """What a function put there when it ran again, with the span."""


_of_tape: WeakKeyDictionary[Tape, _RerunsSeen] = WeakKeyDictionary()


class RerunWatch:
    """Looks at the state of one checkpointed function.

    Args:
        mode: Of the recorder for which it does.
        frame: The one that calls checkpoint.
        function: What is checkpointed.
        args: What it is given.
    """

    def __init__(self, mode: RecorderMode, frame: FrameType, function: Any, args: tuple[Any, ...]) -> None:
        self._observer = mode.observer
        self._function = _key(function)
        self._known = _of_tape.setdefault(self._observer.tape, _RerunsSeen())
        self._span = -1
        self._states: list[_State] = []
        key = self._function
        if self._known.looked_at[key] < RUNS and len(self._known.looked_at) < IN_ALL:
            self._known.looked_at[key] += 1
            self._span = self._observer.sites.locate(frame).site.span
        if self._span >= 0:
            self.look(function, args)
            self._note_left()

    def look(self, function: Any, args: tuple[Any, ...]) -> None:
        """Note the state as it is now; an error of ours is kept as a fault."""
        if self._span < 0:
            return
        try:
            with torch._C.DisableTorchFunction():
                self._states.append(dict(_state_of(function, args)))
        except Exception as fault:
            if is_programs(fault):
                raise
            self._span = -1
            self._observer.fault("checkpoint")

    def compare(self) -> None:
        """Keep what differed: of the first two looks, around the first run, and of the last two, around the second."""
        if self._span < 0 or len(self._states) != 4:
            return
        entered, left, again, after = self._states
        del self._states[2:]
        for key, last in after.items():
            first, then, now = (state.get(key) for state in (entered, left, again))
            if last.identity:
                is_old = now is not None and (now.identity, now.length) == (last.identity, last.length)
                if last.is_tracked and not is_old:
                    self._known.left[key] = self._span, last
            elif first is not None and then is not None and now is not None and first.differs(now):
                sort = "own" if now.differs(last) else "entered" if first.differs(then) else "outside"
                self._add(sort, self._span, key, now, (first, now))

    def _note_left(self) -> None:
        """Of what a run in backward put somewhere: is it still there when a function begins to run?"""
        for key, value in self._states[0].items():
            span, left = self._known.left.get(key, (-1, value))
            if span >= 0 and value.identity == left.identity and value.length >= left.length:
                self._add("left", span, key, value)

    def _add(
        self,
        sort: str,
        span: int,
        key: tuple[int, str],
        value: _FoundThere,
        pair: tuple[_FoundThere, _FoundThere] | None = None,
    ) -> None:
        pairs = self._known.found.setdefault(span, {}).setdefault(sort, {}).setdefault((value.owner, key[1]), {})
        if pair is not None and len(pairs) < _VALUES and all(type(one.plain) in (int, bool) for one in pair):
            pairs[pair] = None


def watched(function: Callable[..., Any], watches: list[RerunWatch]) -> Callable[..., Any]:
    """A checkpointed function that is looked at when it runs again."""
    if not watches:
        return function

    def runs_again(*args: Any, **kwargs: Any) -> Any:
        for watch in watches:
            watch.look(function, args)
        try:
            return function(*args, **kwargs)
        finally:  # (backward leaves it by an exception, as soon as all is there that is needed)
            for watch in watches:
                watch.look(function, args)
                watch.compare()

    return runs_again


def write_rerun_states(tape: Tape) -> None:
    """Note what was found otherwise, when a recording ends."""
    known = _of_tape.pop(tape, None)
    for span, found in known.found.items() if known is not None else ():
        detail = {
            sort: [[*name, [[first.plain, now.plain] for first, now in pairs]] for name, pairs in names.items()]
            for sort, names in found.items()
        }
        tape.add_event(_RERUN_STATE, span, 0, 0, json.dumps(detail), [])


def _key(function: Any) -> int:
    owner = getattr(function, "__self__", function)
    if isinstance(owner, nn.Module):
        return id(owner)
    code = getattr(function, "__code__", None)
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if _is_set(cell)]
    modules = [one for one in cells if isinstance(one, nn.Module)]
    return id(modules[0]) if modules else id(code) if isinstance(code, CodeType) else id(type(function))


def _is_set(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _state_of(function: Any, args: tuple[Any, ...]) -> Iterator[tuple[tuple[int, str], _FoundThere]]:
    modules: dict[int, nn.Module] = {}
    functions: dict[int, FunctionType] = {}
    todo = [(one, 0) for one in (function, *args)]
    while todo:
        one, depth = todo.pop()
        if isinstance(one, nn.Module):
            modules |= {id(part): part for part in islice(one.modules(), _PARTS)}
        elif depth < _DEPTH and isinstance(one, MethodType):
            if _has_plain_attributes(one.__self__):
                yield from _attributes(one.__self__, vars(one.__self__).keys(), 1)
            todo += [(one.__self__, depth + 1), (one.__func__, depth + 1)]
        elif depth < _DEPTH and isinstance(one, partial):
            todo += [(part, depth + 1) for part in (one.func, *one.args, *one.keywords.values())]
        elif depth < _DEPTH and isinstance(one, FunctionType):
            functions[id(one)] = one
            known = [one.__globals__.get(name) for name in one.__code__.co_names]
            known += [cell.cell_contents for cell in one.__closure__ or () if _is_set(cell)]
            todo += [(part, depth + 1) for part in (*known, *(one.__defaults__ or ()))]
        elif depth == 0 and _has_plain_attributes(one):
            yield from _attributes(one, vars(one).keys(), 1)
    for module in modules.values():
        if not type(module).__module__.startswith("torch."):
            yield from _attributes(module, vars(module).keys() - _INTERNAL, 0)
            forward = getattr(type(module), "forward", None)
            functions |= {id(forward): forward} if isinstance(forward, FunctionType) else {}
    for each in functions.values():
        if not each.__module__.startswith("torch."):
            for name in each.__code__.co_names:
                if name in each.__globals__ and (value := _value(_GLOBALS, each.__globals__[name])) is not None:
                    yield (id(each.__globals__), name), value


def _attributes(owner: Any, names: Any, depth: int) -> Iterator[tuple[tuple[int, str], _FoundThere]]:
    held = vars(owner)
    for name in islice(names, _PARTS):
        one = held.get(name)
        value = _value(type(owner).__name__, one)
        if value is not None:
            yield (id(owner), name), value
        elif depth == 0 and _has_plain_attributes(one):
            yield from _attributes(one, vars(one).keys(), depth + 1)


def _has_plain_attributes(one: Any) -> bool:
    """Whether it is an object of the program's: looking into it runs no code of its class."""
    kind: Any = type(one)
    is_other = isinstance(one, nn.Module | Tensor | type | FunctionType | MethodType | torch.optim.Optimizer)
    reads: Any = kind.__getattribute__
    is_plain = kind.__dictoffset__ != 0 and reads is object.__getattribute__
    return is_plain and not is_other and not kind.__module__.startswith("torch")


def _value(owner: str, one: Any) -> _FoundThere | None:
    if type(one) in _PLAIN:
        return _FoundThere(owner, plain=one)
    if type(one) is list:
        last = one[-1] if one else None
        last = last[-1] if type(last) in (tuple, list) and last else last
        return _FoundThere(owner, identity=id(one), length=len(one), is_tracked=_is_tracked(last))
    if isinstance(one, Tensor) and _is_tracked(one):
        return _FoundThere(owner, identity=id(one), is_tracked=True)
    return None


def _is_tracked(one: Any) -> bool:
    return isinstance(one, Tensor) and one.grad_fn is not None

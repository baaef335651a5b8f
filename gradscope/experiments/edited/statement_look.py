"""Looking at the names of one statement whenever it runs; no code of the program's is called for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import FrameType, ModuleType
from typing import Any

import torch
from torch._C import DisableTorchFunctionSubclass

from gradscope.experiments.edited.looked_statement import LookedStatement, StatementLook
from gradscope.frames.frame_locals import reading_locals
from gradscope.hosting.probes import Probe
from gradscope.recorder.state.tensors_in import tensors_in

_LOOKS = 64
"""Runs in which the names are looked at; the others are counted."""

_ORDER = ("", "other", "data", "frozen", "tuple", "module", "leaf", "tensor")
"""Kinds, by how much they say: what a name holds in one run may require grad, and not in another."""


class LookingAtStatement:
    """Looks at a statement before it runs, and at what it stores before it runs the next time or at the end.

    Args:
        look: The statement.
        quietly: Mutes the recorder, and warnings.
    """

    def __init__(self, look: StatementLook, quietly: Callable[[], AbstractContextManager[None]]) -> None:
        self.look = look
        self.found = LookedStatement()
        self._quietly = quietly

    def probes(self) -> list[Probe]:
        """Before the statement and after it; what leaves a block (``return``) has no after."""
        line, column = self.look.line, self.look.column
        return [Probe(line, column, True, self._before), Probe(line, column, False, self._note)]

    def _before(self, frame: FrameType) -> None:
        self.found.runs += 1
        self._note(frame)

    def _note(self, frame: FrameType) -> None:
        if self.found.runs > _LOOKS:
            return
        with self._quietly(), reading_locals(frame) as names:
            for name in self.look.names:
                kind = _kind(_held(name, names, frame.f_globals))
                if _ORDER.index(kind) > _ORDER.index(self.found.kinds.get(name, "")):
                    self.found.kinds[name] = kind


_NOT_THERE = object()


def _held(name: str, names: Mapping[str, Any], module: Mapping[str, Any]) -> Any:
    """What a dotted name holds, as far as that is found without running a property or a ``__getattr__``."""
    root, *parts = name.split(".")
    held = names[root] if root in names else module.get(root, _NOT_THERE)
    for part in parts:
        held = _attribute(held, part)
    return held


def _attribute(held: Any, name: str) -> Any:
    if held is _NOT_THERE:
        return held
    try:
        own: Any = object.__getattribute__(held, "__dict__")
    except AttributeError:
        return _NOT_THERE
    places = [own]
    if issubclass(type(held), torch.nn.Module):
        places += [own.get(table, {}) for table in ("_parameters", "_buffers", "_modules")]
    return next((place[name] for place in places if type(place) is dict and name in place), _NOT_THERE)


def _kind(held: Any) -> str:
    """What is held, in a word; see :class:`LookedStatement`."""
    kind = type(held)
    if held is _NOT_THERE:
        return ""
    if issubclass(kind, torch.Tensor):
        with DisableTorchFunctionSubclass():
            if not held.requires_grad:
                return "data"
            return "leaf" if held.is_leaf else "tensor"
    if issubclass(kind, torch.nn.Module):
        return "module" if _may_be_frozen(held) else "frozen"
    if issubclass(kind, ModuleType) or not issubclass(kind, (tuple, list, dict)):
        return "other"
    found = [_kind(tensor) for tensor in tensors_in(held)]
    return "tuple" if "tensor" in found or "leaf" in found else "data" if found else "other"


def _may_be_frozen(module: torch.nn.Module) -> bool:
    """Whether it has a parameter that requires grad."""
    todo, seen = [module], set[int]()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if any(_kind(parameter) == "leaf" for parameter in one.__dict__.get("_parameters", {}).values()):
            return True
        todo += [part for part in one.__dict__.get("_modules", {}).values() if part is not None]
    return False

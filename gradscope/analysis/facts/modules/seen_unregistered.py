"""Parameters that a module does not know, as the names under which they were seen tell.

A module's parts are named as ``named_parameters`` names them: ``self.layers.0.weight``. ``self.layers[0].weight`` was
found in a list, tuple or dict of Python's own, into which ``parameters()`` does not look. And of what a call gave for a
parameter (``nn.Parameter(x).to(dtype)``) it knows nothing either: that is no leaf.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from gradscope.analysis.index import Index
from gradscope.frames.modules.stores_of_attributes import (
    StoreOfAttribute,
    attribute_gone_through,
    store_of_attribute,
)
from gradscope.recording import NONE
from gradscope.recording.flags import LEAF

_IN_CONTAINER = re.compile(r"self\.(\w+)(\[[^\]]*\])((?:\.\w+)*)$")
_COMPREHENSION = re.compile(r"(\.<locals>)?\.?<(listcomp|setcomp|dictcomp|genexpr)>$")
_ON_SELF = re.compile(r"self\.(\w+)$")
_STEPS = 4
"""Calls, one on what the other gave, behind a parameter."""


class SeenUnregistered(NamedTuple):
    """How a parameter is kept."""

    file: int
    store: StoreOfAttribute
    """The statement of that file that stores it."""
    attribute: str
    """``self.layers``."""
    held_as: Literal["list", "dict", "container", "result"]
    """In a list or a dict, in one of them (``container``), or as the ``result`` of a call."""
    made: int = NONE
    """The first of the ops that gave that result."""


class UnregisteredParameters:
    """Finds them in one recording."""

    def __init__(self, index: Index, names_held: Mapping[int, Sequence[tuple[int, int, int]]]) -> None:
        self._index = index
        self._names_held = names_held

    def of(self, tensor: int) -> SeenUnregistered | None:
        """How a parameter is kept; None where it may be registered, and where the source does not show one store."""
        return self._in_container(tensor) or self._in_loop(tensor) or self._as_result(tensor)

    def _in_container(self, tensor: int) -> SeenUnregistered | None:
        names = [(self._index.recording.text(name), span) for name, _, span in self._names_held.get(tensor, ())]
        for name, span in names:
            found = _IN_CONTAINER.match(name)
            if found is None or any(_is_longer(one, found[3]) for one, _ in names):
                continue
            if kept := self._stored(span, found[1]):
                file, store = kept
                held_as = store.gives or ("dict" if found[2][1] in "'\"" else "container")
                return SeenUnregistered(file, store, f"self.{found[1]}", held_as)
        return None

    def _in_loop(self, tensor: int) -> SeenUnregistered | None:
        """In a list or dict, by the text that stores it, whose items a loop gives the name under which it was seen."""
        recording = self._index.recording
        names = [(recording.text(name), span) for name, _, span in self._names_held.get(tensor, ())]
        for name, span in names:
            row = recording.spans[span] if span >= 0 else None
            variable, dot, path = name.partition(".")
            if row is None or row.file < 0 or any(_is_longer(one, f"{dot}{path}") for one, _ in names):
                continue
            attribute = attribute_gone_through(recording.files[row.file].text, row.line, variable)
            kept = self._stored(span, attribute) if attribute else None
            if kept is not None and kept[1].gives:
                return SeenUnregistered(*kept, f"self.{attribute}", kept[1].gives)
        return None

    def _as_result(self, tensor: int) -> SeenUnregistered | None:
        """What one call after another gave for a parameter that no object held, stored on ``self``."""
        text = self._index.recording.text
        if any("." in text(name) for name, _, _ in self._names_held.get(tensor, ())):
            return None
        flags, first = self._index.recording.tensors.column("flags"), NONE
        for _ in range(_STEPS):
            users = list(self._index.users.of(tensor))
            made = self._index.tensors_made(users[0]) if len(users) == 1 else []
            if len(made) != 1 or flags[made[0]] & LEAF:
                return None
            tensor, first = made[0], users[0] if first == NONE else first
            for name, _, span in self._names_held.get(tensor, ()):
                found = _ON_SELF.match(text(name))
                if found is not None and (kept := self._stored(span, found[1])):
                    return SeenUnregistered(*kept, found[0], "result", first)
        return None

    def _stored(self, span: int, attribute: str) -> tuple[int, StoreOfAttribute] | None:
        """The file and the statement by which a class stores an attribute of ``self`` that one of its methods read."""
        recording = self._index.recording
        row = recording.spans[span] if span >= 0 else None
        if row is None or row.file < 0 or row.function < 0:
            return None
        owner = _COMPREHENSION.sub("", recording.text(row.function)).rpartition(".")[0].rpartition(".")[2]
        store = store_of_attribute(recording.files[row.file].text, owner, attribute)
        return None if store is None else (row.file, store)


def _is_longer(name: str, path: str) -> bool:
    """Whether a name leads to a parameter by more than a path: through a module that has what is kept as its part."""
    own = f".{name.partition('.')[2]}"
    return "." in name and "[" not in name and own != path and own.endswith(path)

"""Statements of functions that were registered as hooks on modules: they run in the midst of the module's call."""

from __future__ import annotations

from gradscope.analysis.facts.events import Events
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind

_OF_CALLS = ("forward", "forward_pre")


def statements_of_hooks(index: Index) -> frozenset[int]:
    """The statements of hooks that run before or behind a module's ``forward``."""
    hooks = {
        (int(event.detail["place"]), str(event.detail.get("function")))
        for event in Events(index).of(EventKind.HOOK)
        if event.detail.get("hook") in _OF_CALLS and event.detail.get("place", NONE) >= 0
    }
    found = set[int]()
    for place, name in hooks:
        begins = index.recording.spans[place]
        for at, one in enumerate(index.statements):
            is_named = index.recording.text(one.function).rpartition(".")[2] == name and one.line >= begins.line
            # (a lambda is of the statement that registers it)
            if one.file == begins.file and (is_named or one.line <= begins.line <= one.end_line):
                found.add(at)
    return frozenset(found)

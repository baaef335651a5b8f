"""What the program calls a module that a call set the mode of: by the names of its parameters."""

from __future__ import annotations

from gradscope.analysis.facts.modes.training_modes import ModeCall
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.index import Index
from gradscope.recording import NONE


def module_word(index: Index, names: BestNames, call: ModeCall) -> str:
    """``net``, where its parameters are ``net.0.weight`` and so on; else the module's class.

    It is the module of this class whose parameters are those of the call: no part of it, nor what it is a part of.
    """
    first = min(call.parameters, default=NONE)
    called = {tensor: names.of(tensor) for tensor in call.parameters}
    others = {names.of(tensor) for _, tensor, _ in index.recording.module_tensors if tensor not in call.parameters}
    for own in _own_names(index, first, call.name):
        word = called[first].removesuffix(f".{own}")
        is_its = word != called[first] and all(name.startswith(f"{word}.") for name in called.values())
        if is_its and not word.startswith("<") and not any(name.startswith(f"{word}.") for name in others):
            return word
    return call.name


def _own_names(index: Index, tensor: int, kind: str) -> list[str]:
    """The names of a parameter within the modules of a class that have it, the outermost module's first."""
    recording = index.recording
    modules, text = recording.modules, recording.text
    found: list[str] = []
    for module, one, name in recording.module_tensors:
        if one != tensor or found:
            continue
        own, current = text(name), module
        while current != NONE:
            row = modules[current]
            if text(row.kind).rpartition(".")[2] == kind.rpartition(".")[2]:
                found.append(own)
            own, current = f"{text(row.name)}.{own}", row.parent
    return found[::-1]

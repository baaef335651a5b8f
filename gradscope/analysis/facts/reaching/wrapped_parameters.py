"""The statement that made a parameter of what others were computed from: a new leaf, which no call was seen to make.

``nn.Parameter(flat[3:])`` is no call of a torch function. The parameter turns up at the first call that takes it in,
which may be far from the line that wrapped it: that line is found in the source, by what it computes and its name.
"""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import Lines
from gradscope.analysis.index import Index
from gradscope.frames.modules.parameter_wraps import ParameterWrap, parameter_wraps
from gradscope.recording.flags import EXTERNAL, LEAF, PARAMETER

_NEW_LEAF = EXTERNAL | LEAF | PARAMETER


class Wrapped(NamedTuple):
    """One such statement."""

    at: Lines
    by: str
    """What makes the parameter: ``Parameter``, ``ParameterDict``."""
    begun: Lines | None
    """The line that makes that dict, or list, where it is one of the same function."""


class WrappedParameters:
    """Finds the statements that wrapped parameters; what several of them need is computed once."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._known: dict[int, Wrapped | None] = {}

    def is_wrapped(self, tensor: int) -> bool:
        """Whether a tensor is a parameter that no seen call made."""
        return self._index.recording.tensors.column("flags")[tensor] & _NEW_LEAF == _NEW_LEAF

    def at(self, tensor: int) -> Wrapped | None:
        """The one statement that may have wrapped a parameter; None where the source has none, or several."""
        if tensor not in self._known:
            self._known[tensor] = self._find(tensor)
        return self._known[tensor]

    def _find(self, tensor: int) -> Wrapped | None:
        files = self._index.recording.files
        wraps = [
            (number, wrap) for number, file in enumerate(files) if file.is_user for wrap in parameter_wraps(file.text)
        ]
        names, places = self._names(tensor), self._computed_at(tensor)
        named = [(file, wrap) for file, wrap in wraps if not wrap.is_of_new and (not names or wrap.attributes & names)]
        others = [(file, wrap) for file, wrap in wraps if not wrap.is_of_new and not wrap.attributes]
        for place in places:
            for file, wrap in (*named, *others):
                if file == place[0] and wrap.line <= place[1] <= wrap.end_line:
                    return _wrapped(self._index, file, wrap)
        if named:
            return _wrapped(self._index, *named[0]) if len(named) == 1 and names else None
        return _wrapped(self._index, *others[0]) if len(others) == 1 and others[0][1].by != "Parameter" else None

    def _names(self, tensor: int) -> set[str]:
        """The last parts of the names under which a tensor was seen."""
        recording = self._index.recording
        columns = (recording.bindings.column(name) for name in ("name", "tensor"))
        return {recording.text(name).rpartition(".")[2] for name, held in zip(*columns, strict=True) if held == tensor}

    def _computed_at(self, tensor: int) -> list[tuple[int, int]]:
        """File and line of the calls whose results lie on a tensor's memory, before it was first seen: the last first.

        A wrap's own computation is the last thing that was done to the memory, but for those of its neighbours.
        """
        index, tensors = self._index, self._index.recording.tensors
        made_at, on = tensors.column("op"), tensors.column("storage")
        ops = {
            made_at[one] for one, storage in enumerate(on) if storage == on[tensor] and made_at[one] < made_at[tensor]
        }
        statements = [index.statements[index.op_statement[op]] for op in sorted(ops, reverse=True)]
        return [(statement.file, statement.line) for statement in statements]


def _wrapped(index: Index, file: int, wrap: ParameterWrap) -> Wrapped:
    begun = Lines(file, index.line(file, wrap.begun), wrap.begun, wrap.function) if wrap.begun else None
    return Wrapped(Lines(file, index.line(file, wrap.line), wrap.end_line, wrap.function), wrap.by, begun)

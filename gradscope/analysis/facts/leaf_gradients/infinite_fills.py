"""Calls that fill with an infinity on purpose: by their text, or by a constant of the file that is one."""

from __future__ import annotations

import ast
import re
from collections import deque

from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import parsed

_FILLS = frozenset(
    """
    masked_fill masked_fill_ full full_like new_full fill_ tensor where triu tril __setitem__ index_fill index_fill_
    masked_scatter scatter as_tensor pad
    """.split()  # noqa: SIM905
)
"""Calls by which programs put an infinity where they want one."""

_INFINITY = re.compile(r"[-+]?(float\(['\"][-+]?inf(inity)?['\"]\)|(\w+\.)?inf)", re.IGNORECASE)
"""A number that is one, as ``ast.unparse`` writes it."""

_PASSING = frozenset(
    """
    add sub __add__ __radd__ __sub__ __iadd__ stack cat concat where __getitem__ view reshape unsqueeze squeeze flatten
    permute transpose expand expand_as repeat float double to clone contiguous narrow select chunk split unbind roll pad
    flip detach gather index_select logsumexp logaddexp logcumsumexp masked_fill masked_fill_ __setitem__ copy_ __get__
    """.split()  # noqa: SIM905
)
"""Calls whose result has the -inf of what goes in; of logsumexp where it has nothing else."""

_FOLLOWED = 1000
"""Calls between a fill and the call that it ends in."""


class InfiniteFills:
    """Finds them in a recording."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._constants: dict[int, frozenset[str]] = {}

    def is_one(self, op: int) -> bool:
        """Whether a call fills with an infinity."""
        place = self._index.op_place(op)
        if self._name(op) not in _FILLS:
            return False
        return "inf" in place.source or self._names_one(op)

    def into(self, op: int) -> list[int]:
        """The calls that fill what a call is given, one of each line: handed on by what leaves a -inf as it is."""
        found, seen, todo = set[int](), {op}, deque([op])
        while todo and len(seen) < _FOLLOWED:
            for tensor in self._index.uses.of(todo.popleft()):
                made = self._index.made_by(tensor)
                if not 0 <= made < op or made in seen:
                    continue
                seen.add(made)
                if self.is_one(made):
                    found.add(made)
                if self._name(made) in _PASSING:
                    todo.append(made)
        return sorted({self._index.op_line(one): one for one in sorted(found)}.values())

    def _name(self, op: int) -> str:
        return self._index.func(op).removesuffix(".__get__").rpartition(".")[2]

    def _names_one(self, op: int) -> bool:
        """Whether the text of a call names a constant of its file that is an infinity."""
        span = self._index.recording.ops.column("span")[op]
        if span < 0:
            return False
        constants = self._constants_of(self._index.recording.spans[span].file)
        return bool(constants) and not constants.isdisjoint(re.findall(r"\w+", self._index.span_source(op)))

    def _constants_of(self, file: int) -> frozenset[str]:
        """The names that stand for an infinity in a file, wherever they are bound."""
        if file not in self._constants:
            tree = parsed(self._index.recording.files[file].text)
            bound: dict[str, list[bool]] = {}
            for part in ast.walk(tree) if tree is not None else ():
                if isinstance(part, ast.Assign):
                    is_one = _INFINITY.fullmatch(ast.unparse(part.value)) is not None
                    for target in part.targets:
                        name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
                        bound.setdefault(name, []).append(is_one)
            self._constants[file] = frozenset(name for name, are in bound.items() if name and all(are))
        return self._constants[file]

"""Deep copies of modules that compute with the parameters of the original: their own have no part in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modules.copies_without_hooks import copies_of_parameters
from gradscope.analysis.index import Index
from gradscope.frames.modules.bound_forwards import bound_forwards
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

_COPIES = re.compile(r"nn\.Parameter\.__deepcopy__")
_SETS = (OpKind.SET, OpKind.STEP, OpKind.READ_GRAD)
_TAKES = ("Tensor.data.__get__", "Tensor.detach")
_WRITES = re.compile(r"Tensor\.[a-z]\w*[a-z0-9]_|torch\._foreach_\w+_")
"""Averages are written so (``lerp_``, ``copy_``)."""


class CopiedClosure(NamedTuple):
    """A copy."""

    copied: int
    """The op that made it."""
    module: int
    ran: int
    """An op in it that took parameters of the original."""
    copies: list[int]
    originals: list[int]
    places: list[tuple[int, int, int]]
    """File, first and last line where the program gives objects such functions."""


def copied_closures(index: Index) -> Iterator[CopiedClosure]:
    """Copies that were called, each once."""
    files = index.recording.files
    places = [(at, *lines) for at, file in enumerate(files) if file.is_user for lines in bound_forwards(file.text)]
    copied = index.calls_of(_COPIES.fullmatch) if places else []
    if not copied:
        return
    trees = _trees(index)
    own: dict[int, list[int]] = {}
    for module, tensor, _ in index.recording.module_tensors:
        own.setdefault(trees[module], []).append(tensor)
    ops: dict[int, list[int]] = {}
    for op, module in index.recording.module_ops:
        ops.setdefault(trees[module], []).append(op)
    for op in copied:
        copies = {copy: original for original, made in copies_of_parameters(index, op).items() for copy in made}
        for module, tensors in own.items():
            mine = [one for one in tensors if one in copies]
            used = (user for one in mine for user in index.users.of(one) if user > op)
            if not mine or len(mine) < len(tensors) or not all(_computes_nothing(index, user) for user in used):
                continue
            originals = {copies[one] for one in mine}
            ran = [one for one in ops.get(module, ()) if one > op and not originals.isdisjoint(index.uses.of(one))]
            if ran:
                yield CopiedClosure(op, module, ran[-1], mine, sorted(originals), places)


def _computes_nothing(index: Index, op: int) -> bool:
    """Whether a call that is given a parameter makes nothing of it: it is set, read as it is, written or stepped."""
    is_set = index.recording.ops.column("kind")[op] in _SETS or index.func(op).startswith("nn.Module.")
    return is_set or index.func(op) in _TAKES or bool(_WRITES.fullmatch(index.func(op)))


def _trees(index: Index) -> list[int]:
    """The outermost module that each is part of."""
    parents, found = index.recording.modules.column("parent"), list[int]()
    for module in range(len(parents)):
        while parents[module] != NONE:
            module = parents[module]
        found.append(module)
    return found

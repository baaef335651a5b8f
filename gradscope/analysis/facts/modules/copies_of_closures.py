"""Deep copies of modules that compute with the parameters of the original: their own have no part in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradscope.analysis.facts.modules.copies_without_hooks import copies_of_parameters
from gradscope.analysis.index import Index
from gradscope.frames.modules.bound_forwards import bound_forwards
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

_COPIES = re.compile(r"nn\.Parameter\.__deepcopy__")
_SETS = (OpKind.SET, OpKind.STEP, OpKind.READ_GRAD)
_TAKES = ("Tensor.data.__get__", "Tensor.detach")
_WRITES = re.compile(r"Tensor\.[a-z]\w*[a-z0-9]_|torch\._foreach_\w+_|nn\.init\.\w+_|optim\.Optimizer\.zero_grad")
"""Averages are written so (``lerp_``, ``copy_``), and weights drawn anew."""


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
    """Copies that were called; those that took parameters of the same originals are told once."""
    files = index.recording.files
    places = [(at, *lines) for at, file in enumerate(files) if file.is_user for lines in bound_forwards(file.text)]
    copies = {
        copy: (original, op)
        for op in (index.calls_of(_COPIES.fullmatch) if places else ())
        for original, made in copies_of_parameters(index, op).items()
        for copy in made
    }
    if not copies:
        return
    own, ops = _below(index)
    unused: dict[tuple[int, ...], list[int]] = {}
    for module, tensors in own.items():
        mine = [one for one in tensors if one in copies]
        originals = tuple(sorted({copies[one][0] for one in mine}))
        if mine and {*tensors} <= {*mine, *originals} and all(_has_no_part(index, one, copies[one][1]) for one in mine):
            unused.setdefault(originals, []).append(module)
    for originals, modules in unused.items():
        made = min(copies[one][1] for module in modules for one in own[module] if one in copies)
        ran = [
            op
            for one in modules
            for op in ops.get(one, ())
            if op > made and not {*originals}.isdisjoint(index.uses.of(op))
        ]
        called = [one for one in modules if any(op > made for op in ops.get(one, ()))]
        if ran:
            mine = sorted({one for module in called for one in own[module] if one in copies})
            yield CopiedClosure(made, min(called), max(ran), mine, list(originals), places)


def _has_no_part(index: Index, copy: int, copied: int) -> bool:
    return all(_computes_nothing(index, user) for user in index.users.of(copy) if user > copied)


def _computes_nothing(index: Index, op: int) -> bool:
    """Whether a call that is given a parameter makes nothing of it: it is set, read as it is, written or stepped."""
    is_set = index.recording.ops.column("kind")[op] in _SETS or index.func(op).startswith("nn.Module.")
    return is_set or index.func(op) in _TAKES or bool(_WRITES.fullmatch(index.func(op)))


def _below(index: Index) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """The parameters, and the ops, of each module and of all that are part of it."""
    parents = index.recording.modules.column("parent")
    own, ops = dict[int, list[int]](), dict[int, list[int]]()
    for module, tensor, _ in index.recording.module_tensors:
        for one in _up(parents, module):
            own.setdefault(one, []).append(tensor)
    for op, module in index.recording.module_ops:
        for one in _up(parents, module):
            ops.setdefault(one, []).append(op)
    return own, ops


def _up(parents: Sequence[int], module: int) -> Iterator[int]:
    while module != NONE:
        yield module
        module = parents[module]

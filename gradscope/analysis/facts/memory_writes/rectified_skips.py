"""Tensors that an activation wrote in place, and that the same function then read as what they had been before.

``y = self.body(self.act(x)); return x + y`` with an activation that works in place: the two ways have one tensor.
Autograd raises nothing where no node had saved what was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.names.skip_paths import kept_name
from gradscope.recording.flags import EXTERNAL

_ACTIVATIONS = re.compile(
    r"(F|torch|Tensor)\.(relu|relu6|leaky_relu|rrelu|elu|celu|selu|hardtanh|hardswish|hardsigmoid|silu|mish|threshold"
    r"|dropout|alpha_dropout|feature_alpha_dropout|dropout[123]d|tanh|sigmoid)_?"
)
_KEEPS_POSITIVE = re.compile(r"(F|torch|Tensor)\.(relu|leaky_relu|rrelu|elu|celu)_?")
"""Those that leave what is not negative as it is."""
_NOT_NEGATIVE = re.compile(
    r"(F|torch|Tensor)\.(relu|relu6|sigmoid|hardsigmoid|softmax|softplus|exp|abs|square|rand|zeros|ones)_?"
)
_STAYS_SO = re.compile(
    r"(F|torch|Tensor)\.(dropout|max_pool[123]d|avg_pool[123]d|adaptive_avg_pool[123]d|adaptive_max_pool[123]d|mean|sum"
    r"|view|reshape|flatten|permute|transpose|contiguous|clone|detach|interpolate|add|cat|pad|__getitem__)_?"
)
_MIXES = re.compile(
    r"Tensor\.(__)?[ri]?(add|sub|mul)(__)?_?|torch\.(add|sub|mul|cat|concat|concatenate|stack|lerp)|Tensor\.lerp"
)
_DEPTH = 6
"""Calls before a tensor that are looked at for whether it can be negative."""


class RectifiedSkip(NamedTuple):
    """One tensor."""

    tensor: int
    written: int
    """The call (an op) of the activation."""
    read: int
    """The call that took it as it had been."""
    name: str
    """By what name that was."""


def rectified_skips(index: Index, held: dict[int, list[tuple[int, int, int]]]) -> Iterator[RectifiedSkip]:
    """The last run of each pair of statements that wrote and read one.

    Args:
        index: The recording.
        held: For each tensor the names under which it was seen, with op and span.
    """
    text = index.recording.text
    found: dict[tuple[int, int], RectifiedSkip] = {}
    rectified: set[int] = set()
    spans = index.recording.ops.column("span")
    for op, tensor, _, _ in writes_by_program(index):
        if not _ACTIVATIONS.fullmatch(index.func(op)) or index.op_statement[op] == NOWHERE:
            continue
        stays = bool(_KEEPS_POSITIVE.fullmatch(index.func(op)))
        if stays and (tensor in rectified or _is_not_negative(index, tensor, _DEPTH, rectified)):
            continue
        if _NOT_NEGATIVE.fullmatch(index.func(op)):
            rectified.add(tensor)
        here = index.statements[index.op_statement[op]]
        for read in index.users.of(tensor):
            if read <= op or not _MIXES.fullmatch(index.func(read)) or index.op_statement[read] == NOWHERE:
                continue
            there = index.statements[index.op_statement[read]]
            if (there.file, there.function) != (here.file, here.function) or text(here.function) == "<module>":
                continue
            at = index.op_statement[read]
            seen = frozenset(
                text(name)
                for name, by, _ in held.get(tensor, ())
                if op < by < index.op_count and index.op_statement[by] == at
            )
            line = index.recording.spans[spans[op]].line
            name = kept_name(index.recording.files[here.file].text, line, there.line, seen) if seen else ""
            if name:
                found[index.op_statement[op], at] = RectifiedSkip(tensor, op, read, name)
                break
    yield from found.values()


def _is_not_negative(index: Index, tensor: int, depth: int, rectified: set[int]) -> bool:
    """Whether no value of a tensor can have been negative, as far as the calls that led to it show."""
    op, flags = (index.recording.tensors.column(name)[tensor] for name in ("op", "flags"))
    if tensor in rectified:
        return True
    if op >= index.op_count or flags & EXTERNAL:
        return False
    if _NOT_NEGATIVE.fullmatch(index.func(op)):
        return True
    taken = list(index.uses.of(op))
    return (
        depth > 0
        and bool(taken)
        and bool(_STAYS_SO.fullmatch(index.func(op)))
        and all(_is_not_negative(index, one, depth - 1, rectified) for one in taken)
    )

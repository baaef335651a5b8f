"""Parameters that a module had under two names each, until a call put other ones there, one for each name.

``to_empty()``, conversions that make new parameters (where they are told to), ``load_state_dict(assign=True)`` and a
deep copy of a part go from name to name: nothing tells them that two are one. That they were one was seen, and so was
that they are two at the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from gradscope.analysis.facts.modules.assigned_loads import assigning_load, assigning_loads
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER

_MAKES = re.compile(r"nn\.Module\.(to_empty|to|cuda|cpu|xpu|double|float|half|bfloat16|type|_apply)")
_COPIES = "nn.Parameter.__deepcopy__"
_STEPS = re.compile(r"^[^.\[]+|[.\[][^.\[]*")
"""The steps of a name: ``model``, ``.layers``, ``[0]``, ``.weight``."""


class Untied(NamedTuple):
    """Two names of one parameter, which have one each at the end."""

    pair: tuple[int, int]
    names: tuple[str, str]
    made: tuple[int, ...]
    """The calls that made one of them, or both."""
    is_load: bool
    """They put there what a state had."""
    are_copies: bool
    """The two are copies of it, each within what wraps one of the two parts that had it."""


class _Moment(NamedTuple):
    """What two names of a parameter at one moment end with, from where they differ on."""

    tensor: int
    op: int
    ends: tuple[str, str]


def untied_parameters(
    index: Index, held: dict[int, list[tuple[int, int, int]]], at_end: dict[str, int]
) -> Iterator[Untied]:
    """One for each parameter that came apart and has two of ``at_end``.

    Args:
        index: The recording.
        held: For each tensor the names under which it was seen: name, op and span.
        at_end: Parameters by the names that held them last.
    """
    loads = assigning_loads(index)
    if not (loads or index.calls_of(_MAKES.fullmatch) or index.calls_of(_COPIES.__eq__)):
        return
    told: set[tuple[int, int]] = set()
    # (names are matched again and again: a moment counts once, but for those of loads)
    known = {(one.tensor, one.ends, one.op if one.op in loads else NONE): one for one in _moments(index, held)}
    for moment in known.values():
        then, copies = list(_then(at_end, moment)), list(_in_wrappers(index, at_end, moment))
        for pair, names in (*then, *copies):
            made = tuple(dict.fromkeys(_maker(index, moment.tensor, one) for one in pair if one != moment.tensor))
            is_load = NONE in made and moment.op in loads
            if is_load:
                made = tuple({assigning_load(index, one, NONE) for one in pair})
            if pair not in told and NONE not in made and not any(_is_of_layer(index, op, moment) for op in made):
                told.add(pair)
                yield Untied(pair, names, made, is_load, (pair, names) in copies)


def _moments(index: Index, held: dict[int, list[tuple[int, int, int]]]) -> Iterator[_Moment]:
    flags = index.recording.tensors.column("flags")
    for tensor, several in held.items():
        if not flags[tensor] & PARAMETER or len({name for name, _, _ in several}) < len("ab"):
            continue
        at: dict[tuple[int, int], set[str]] = {}
        for name, op, span in several:
            at.setdefault((op, span), set()).add(index.recording.text(name))
        for (op, _), names in at.items():
            for one, other in combinations(sorted(names), 2):
                ends = _ends(one, other)
                if ends is not None:
                    yield _Moment(tensor, op, ends)


def _ends(one: str, other: str) -> tuple[str, str] | None:
    """What two names end with from where they differ on, where they begin alike."""
    steps, others = (_STEPS.findall(name) for name in (one, other))
    alike = next((at for at, (a, b) in enumerate(zip(steps, others, strict=False)) if a != b), 0)
    return ("".join(steps[alike:]), "".join(others[alike:])) if alike else None


def _then(at_end: dict[str, int], moment: _Moment) -> Iterator[tuple[tuple[int, int], tuple[str, str]]]:
    """Pairs of parameters that have two such names of one object."""
    first, second = moment.ends
    for name, one in at_end.items():
        twin = name.removesuffix(first) + second
        if name.endswith(first) and name != first and at_end.get(twin, one) != one:
            yield (one, at_end[twin]), (name, twin)


def _in_wrappers(
    index: Index, at_end: dict[str, int], moment: _Moment
) -> Iterator[tuple[tuple[int, int], tuple[str, str]]]:
    """Pairs of copies of a parameter that one statement made, within the two parts that had the parameter as one.

    ``embed.copy.weight`` and ``head.copy.weight``: what wraps each part copies it without regard to the other.
    """
    steps, others = (_STEPS.findall(end) for end in moment.ends)
    while steps and others and steps[-1] == others[-1]:
        del steps[-1], others[-1]
    part, twin_part = "".join(steps), "".join(others)
    for name, one in at_end.items():
        twin = name.replace(f"{part}.", f"{twin_part}.", 1)
        other = at_end.get(twin, one)
        made = [_maker(index, moment.tensor, copied) for copied in (one, other)] if part and other != one else [NONE]
        by_one = NONE not in made and len({index.op_statement[op] for op in made}) == 1
        if by_one and {index.func(op) for op in made} == {_COPIES}:
            yield (one, other), (name, twin)


def _maker(index: Index, before: int, parameter: int) -> int:
    """The call that took a parameter and made the memory of another one; NONE where none did."""
    storage = index.recording.tensors.column("storage")[parameter]
    op = index.recording.storages.column("op")[storage] if storage >= 0 else NONE
    if not 0 <= op < index.op_count or index.op_statement[op] == NOWHERE or before not in index.uses.of(op):
        return NONE
    return op if _MAKES.fullmatch(index.func(op)) or index.func(op) == _COPIES else NONE


def _is_of_layer(index: Index, op: int, moment: _Moment) -> bool:
    """Whether what is copied is the very layer that had the parameter: ``model.head = deepcopy(model.head)``.

    Who writes that wants another one.
    """
    layers = ["".join(_STEPS.findall(end)[:-1]).lstrip(".") for end in moment.ends]
    source = index.span_source(op)
    return index.func(op) == _COPIES and any(
        re.search(rf"\b{re.escape(layer)}(\.\w+)?\)", source) for layer in layers if layer
    )

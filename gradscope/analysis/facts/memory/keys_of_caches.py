"""Tensors by which a cache of functools finds results, and that nothing can give it again.

A tensor is hashed by its identity: one with the same values is another key. What the cache was given it keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.index import Index
from gradscope.frames.names.caching_decorators import CachedFunction, cached_functions
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER

AT_LEAST = 8
"""Tensors from which on they pile up: a cache of a few sizes is given as many at most."""
_NEXT = 2
"""Runs of the function after which a tensor that is still used may be given again."""


class KeysKept(NamedTuple):
    """What one function with a cache was given, all of which is still there."""

    file: int
    function: CachedFunction
    tensors: tuple[int, ...]
    is_bounded: bool
    """Whether the function ran with others that are gone by now."""


def keys_kept(index: Index, names: BestNames, held: dict[int, list[tuple[int, int, int]]]) -> Iterator[KeysKept]:
    """One for each function with a cache of functools.

    Args:
        index: The recording.
        names: Best names of tensors.
        held: For each tensor the names under which it was seen, with op and span.
    """
    for number, file in enumerate(index.recording.files):
        for function in cached_functions(file.text) if file.is_user else ():
            if not function.is_of_functools:
                continue
            inside = _inside(index, number, function)
            given = _given(index, names, held, inside, function.put.parameters)
            kept = [one for one in given if _is_kept(index, held, one)]
            if len(kept) >= AT_LEAST and not _comes_again(index, given, inside):
                yield KeysKept(number, function, tuple(kept), is_bounded=len(kept) < len(given) - 1)


def _inside(index: Index, file: int, function: CachedFunction) -> set[int]:
    """The statements of a function."""
    return {
        number
        for number, one in enumerate(index.statements)
        if one.file == file and function.line <= one.line <= function.end_line
    }


def _given(
    index: Index,
    names: BestNames,
    held: dict[int, list[tuple[int, int, int]]],
    inside: set[int],
    parameters: tuple[str, ...],
) -> dict[int, int]:
    """The tensors that a function was given as they are, by the op at which it first used each, in that order.

    In loops only some runs are matched with names: the others were given the same results of the same calls.
    """
    statements, flags, text = index.statement_of_span, index.recording.tensors.column("flags"), index.recording.text
    seen = {
        tensor
        for tensor, rows in held.items()
        if not flags[tensor] & PARAMETER
        and any(span >= 0 and statements[span] in inside and text(name) in parameters for name, _, span in rows)
    }
    slots = names.slots
    like = {slots[one] for one in seen if slots[one] >= 0}
    seen |= {tensor for tensor, slot in enumerate(slots) if slot in like} if like else set()
    first = {
        tensor: next((op for op in index.users.of(tensor) if index.op_statement[op] in inside), NONE) for tensor in seen
    }
    return dict(sorted(((one, op) for one, op in first.items() if op >= 0), key=lambda pair: pair[1]))


def _is_kept(index: Index, held: dict[int, list[tuple[int, int, int]]], tensor: int) -> bool:
    """Whether a tensor is there at the end, and no name, list or object of the program's was found to hold it."""
    is_there = index.recording.tensors.column("died")[tensor] == NONE
    return is_there and not any(span == NONE for _, _, span in held.get(tensor, ()))


def _comes_again(index: Index, given: dict[int, int], inside: set[int]) -> bool:
    """Whether something was done with a tensor, or with a result, once the function had run with others.

    Whoever holds the one goes on with it and may give it again; a result that is used later came out of the cache.
    """
    begun = [*given.values(), index.op_count]
    for at, tensor in enumerate(given):
        if at + _NEXT >= len(begun) - 1:
            break
        ops = [op for op in range(begun[at], begun[at + 1]) if index.op_statement[op] in inside]
        made = [one for op in ops for one in index.tensors_made(op)]
        if any(op >= begun[at + _NEXT] for one in (tensor, *made) for op in index.users.of(one)):
            return True
    return False

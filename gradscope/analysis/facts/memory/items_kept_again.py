"""One tensor that a list keeps several times, though it was written anew for each.

``buffer.copy_(out); history.append(buffer)``: each item is the buffer itself, with the values of the last write. That
the items are one tensor shows where the list is read (``torch.stack(history)`` takes one tensor n times) or by its
names (``history[0]``, ``history[1]``); the line that puts it there calls no torch function, and is read from the text.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.given_names import Given, puts, repetitions, yields
from gradscope.frames.loops_around import share_a_loop
from gradscope.frames.put_statements import containers_of, last_part, puts_in
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, PARAMETER
from gradscope.recording.rows import OpKind

_JOINS = re.compile(r"torch\.(stack|cat|concat|concatenate|vstack|hstack|dstack|row_stack|column_stack)")
_ITEM = re.compile(r"\[(\d+)\]")
_OF_STEPS = 3
"""Items from which on a weight or a gradient is kept again, which steps and passes write: two may be tied weights."""
_PUT_LINES = 3
"""Lines that may have put a tensor into the list; where there are more, none of them is known to have."""


class KeptAgain(NamedTuple):
    """One tensor that is several items of a list."""

    tensor: int
    times: int
    read: int
    """The op that took it several times; NONE where only its names show that."""
    written: int
    """The last op that wrote it before that."""
    file: int
    puts: tuple[Given, ...]


def kept_again(index: Index, sharing: StorageGroups, names: dict[int, list[tuple[int, int, int]]]) -> list[KeptAgain]:
    """One for each line that puts a tensor into a list again after it was written.

    Args:
        index: The recording.
        sharing: Which tensors share memory.
        names: For each tensor the names under which it was seen, with op and span.
    """
    writes, others = _writes(index, sharing)
    several = (*_joined(index), *_items(index, names, writes, 2), *_items(index, names, others, _OF_STEPS))
    found: dict[tuple[int, int], KeptAgain] = {}
    for tensor, times, read in several:
        is_trained = bool(index.recording.tensors.column("flags")[tensor] & PARAMETER)
        by = writes if tensor in writes and not is_trained else others if times >= _OF_STEPS else {}
        before = [op for op in by.get(tensor, ()) if read == NONE or op < read]
        if len(before) < 2:
            continue
        known = {index.recording.text(name) for name, _, _ in names.get(tensor, ())}
        for file, given in _put_at(index, known, before):
            if by is others and not _is_in_a_loop_with(index, file, given, before):
                continue
            found.setdefault((file, given[0].line), KeptAgain(tensor, times, read, before[-1], file, given))
    return list(found.values())


def _is_in_a_loop_with(index: Index, file: int, puts: tuple[Given, ...], writes: list[int]) -> bool:
    """Whether a loop puts the tensor there and writes it: a list of shared weights is made before they are trained."""
    text = index.recording.files[file].text
    lines = {index.statements[index.op_statement[op]].line for op in writes}
    return any(share_a_loop(text, one.line, lines) for one in puts)


def _writes(index: Index, sharing: StorageGroups) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """For each tensor the ops that wrote it in place: single calls of the program's own, and all of them."""
    kinds = index.recording.ops.column("kind")
    made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
    calls: dict[int, list[int]] = {}
    every: dict[int, list[int]] = {}
    for op, tensor, _, _ in all_writes(index):
        is_born_here = op == made_at[tensor] and not flags[tensor] & EXTERNAL
        if op < index.op_count and not is_born_here and index.op_statement[op] != NOWHERE:
            # A write through a view is one of what it is a view of.
            on = tensor
            while on >= 0:
                every.setdefault(on, []).append(op)
                if kinds[op] == OpKind.CALL:
                    calls.setdefault(on, []).append(op)
                on = sharing.base_of(on)
    return calls, every


def _joined(index: Index) -> Iterator[tuple[int, int, int]]:
    """Tensors that were joined with themselves: how many times at the first such op."""
    funcs, text = index.recording.ops.column("func"), index.recording.text
    joins = {func for func in set(funcs) if _JOINS.fullmatch(text(func))}
    seen: set[int] = set()
    for op, func in enumerate(funcs):
        if func not in joins:
            continue
        taken = list(index.uses.of(op))
        for tensor in set(taken) - seen:
            if taken.count(tensor) > 1 and not _is_listed_there(index, op):
                seen.add(tensor)
                yield tensor, taken.count(tensor), op


def _is_listed_there(index: Index, op: int) -> bool:
    """Whether the call itself lists what it joins: ``torch.cat([x, x])`` repeats on purpose."""
    try:
        call = ast.parse(index.span_source(op, exact=True), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return isinstance(call, ast.Call) and bool(call.args) and isinstance(call.args[0], ast.List | ast.Tuple | ast.BinOp)


def _items(
    index: Index, names: dict[int, list[tuple[int, int, int]]], writes: dict[int, list[int]], at_least: int
) -> Iterator[tuple[int, int, int]]:
    """Tensors that are several items of one list, by name."""
    for tensor in writes:
        items: dict[str, set[str]] = {}
        for name, _, _ in names.get(tensor, ()):
            text = index.recording.text(name)
            for item in _ITEM.finditer(text):
                around = f"{text[: item.start()]}[]{text[item.end() :]}"
                items.setdefault(around, set()).add(item[1])
        times = max(map(len, items.values()), default=0)
        if times >= at_least:
            yield tensor, times, NONE


def _put_at(index: Index, known: set[str], writes: list[int]) -> Iterator[tuple[int, tuple[Given, ...]]]:
    """The lines of one file that put the tensor into its list; nothing where they are not known."""
    containers = {name[: item.start()] for name in known for item in _ITEM.finditer(name)}
    held_in = {container for name in known for container in containers_of(name)}
    users = [(number, file.text) for number, file in enumerate(index.recording.files) if file.is_user]
    times = [(number, given) for number, text in users for given in repetitions(text, containers)]
    if len(times) == 1:
        yield times[0][0], (times[0][1],)
        return
    put = [(number, given) for number, text in users for given in puts(text, known)]
    inside = [one for one in put if one[1].name in containers]
    chosen = inside or put
    written = {index.op_statement[op] for op in writes}
    lines = {(index.statements[one].file, index.statements[one].line) for one in written}
    chosen = [one for one in chosen if (one[0], one[1].line) not in lines]
    if not chosen:
        chosen = [(number, given) for number, text in users for given in yields(text, known)]
        chosen += [
            (number, Given(one.line, one.end_line, one.holder, (*one.names, *one.calls, "")[0]))
            for number, text in users
            for one in puts_in(text)
            if last_part(one.holder) in held_in
        ]
    if 0 < len(chosen) <= _PUT_LINES and len({file for file, _ in chosen}) == 1:
        yield chosen[0][0], tuple(given for _, given in chosen)

"""One tensor that a list keeps several times, though it was written anew for each.

``buffer.copy_(out); history.append(buffer)``: each item is the buffer itself, with the values of the last write. That
the items are one tensor shows where the list is read (``torch.stack(history)`` takes one tensor n times) or by its
names (``history[0]``, ``history[1]``); the line that puts it there calls no torch function, and is read from the text.

One name may be given list after list, in each of which the tensor has another place, and a list may hold a tensor
twice that nothing has written since. Only items that one list was seen to have at one moment count, and only where
the rounds that put the tensor there write it as well.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.blocks.loops_around import is_written_between, share_rounds
from gradscope.frames.calls.given_back import GivenBack, given_back
from gradscope.frames.names.given_names import Given, puts, repetitions, yields
from gradscope.frames.names.put_statements import containers_of, given_out_by, handed_to, last_part, puts_in
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
    given_back: GivenBack | None
    """What wrote it last and gave it out as it is; None where the list is given it by its own name."""
    names: frozenset[str]
    """All names under which it was seen."""


def kept_again(index: Index, sharing: StorageGroups, names: dict[int, list[tuple[int, int, int]]]) -> list[KeptAgain]:
    """One for each line that puts a tensor into a list again after it was written.

    Args:
        index: The recording.
        sharing: Which tensors share memory.
        names: For each tensor the names under which it was seen, with op and span.
    """
    writes, others = _writes(index, sharing)
    several = (*_joined(index), *_items(index)) if writes or others else ()
    found: dict[tuple[int, int], KeptAgain] = {}
    for tensor, times, read, seen in several:
        is_trained = bool(index.recording.tensors.column("flags")[tensor] & PARAMETER)
        by = writes if tensor in writes and not is_trained else others if times >= _OF_STEPS else {}
        before = [op for op in by.get(tensor, ()) if op < seen]
        if len(before) < 2:
            continue
        known = {index.recording.text(name) for name, _, _ in names.get(tensor, ())}
        for file, given in _put_at(index, known, before):
            if _is_written_between(index, tensor, file, given, before):
                back = _given_back(index, known, file, given, before[-1])
                kept = KeptAgain(tensor, times, read, before[-1], file, given, back, frozenset(known))
                found.setdefault((file, given[0].line), kept)
    return list(found.values())


def _given_back(index: Index, known: set[str], file: int, puts: tuple[Given, ...], written: int) -> GivenBack | None:
    statement = index.statements[index.op_statement[written]]
    if statement.file != file:
        return None
    back = given_back(index.recording.files[file].text, known, statement.line)
    is_by_name = back is not None and any("." in one.of and last_part(one.of) == last_part(back.value) for one in puts)
    return None if is_by_name else back


def _is_written_between(index: Index, tensor: int, file: int, puts: tuple[Given, ...], writes: list[int]) -> bool:
    """Whether a tensor was written after it had been put into its list, and before it was put there again."""
    spans, text = index.recording.ops.column("span"), index.recording.files[file].text
    counts = Counter[int]()
    for op in writes:
        counts[spans[op]] += index.weights[op]
    lines = set(_lines(index, file, counts))
    again = set(_lines(index, file, (span for span, count in counts.items() if count > 1)))
    maker, is_made_anew = _maker(index, tensor)
    made = next(_lines(index, file, [maker]), None)
    if any(one.line == made and not one.of for one in puts):
        return True  # (``[torch.zeros(3)] * n``: all writes come after)
    if any(share_rounds(text, one.line, one.name, again, made if is_made_anew else None) for one in puts):
        return True
    return is_written_between(text, [one.line for one in puts], lines)


def _lines(index: Index, file: int, spans: Iterable[int]) -> Iterator[int]:
    """The lines of those statements that are of a file."""
    for at in map(index.statement_of_span.__getitem__, spans):
        if index.statements[at].file == file:
            yield index.statements[at].line


def _maker(index: Index, tensor: int) -> tuple[int, bool]:
    """The span that made a tensor, NONE where none was seen to; and whether it made others in other runs."""
    made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
    op = made_at[tensor]
    if flags[tensor] & EXTERNAL or op >= index.op_count:
        return NONE, False
    spans = index.recording.ops.column("span")
    makers = {one for one, at in enumerate(spans) if at == spans[op] and index.made.of(one)}
    return spans[op], sum(index.weights[one] for one in makers) > 1


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


def _joined(index: Index) -> Iterator[tuple[int, int, int, int]]:
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
                yield tensor, taken.count(tensor), op, op


def _is_listed_there(index: Index, op: int) -> bool:
    """Whether the call itself lists what it joins: ``torch.cat([x, x])`` repeats on purpose."""
    try:
        call = ast.parse(index.span_source(op, exact=True), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return isinstance(call, ast.Call) and bool(call.args) and isinstance(call.args[0], ast.List | ast.Tuple | ast.BinOp)


def _items(index: Index) -> Iterator[tuple[int, int, int, int]]:
    """Tensors that are several items of one list, by name: how many times at most, and before which op that was.

    A name is noted at a span where it holds another tensor than at the span's last run. So a list that was changed at
    an item that it had is taken for another one, of which only what is noted with that is known.
    """
    text = lru_cache(maxsize=None)(index.recording.text)
    items = lru_cache(maxsize=None)(_item_names)
    lists: dict[tuple[int, str], dict[str, int]] = {}
    counts: dict[tuple[int, str], Counter[int]] = {}
    changed_at: dict[tuple[int, str], int] = {}
    most: dict[int, tuple[int, int]] = {}
    for name, tensor, op, span, _ in index.recording.bindings:
        for around, item in items(text(name)):
            key = (span, around)
            held, times = lists.setdefault(key, {}), counts.setdefault(key, Counter())
            if held.get(item, tensor) != tensor and changed_at.get(key) != op:
                held.clear()
                times.clear()
                changed_at[key] = op
            if item not in held:
                held[item] = tensor
                times[tensor] += 1
            if times[tensor] > max(1, most.get(tensor, (1, 0))[0]):
                most[tensor] = (times[tensor], op)
    for tensor, (several, op) in most.items():
        yield tensor, several, NONE, op


def _item_names(name: str) -> list[tuple[str, str]]:
    """For each number in brackets the name without it, and the number."""
    return [(f"{name[: item.start()]}[]{name[item.end() :]}", item[1]) for item in _ITEM.finditer(name)]


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
    chosen = chosen or [(number, given) for number, text in users for given in _handed(text, known, held_in)]
    if not chosen:
        chosen = [(number, given) for number, text in users for given in yields(text, known)]
        chosen += [
            (number, Given(one.line, one.end_line, one.holder, (*one.names, *one.calls, "")[0]))
            for number, text in users
            for one in puts_in(text)
            if last_part(one.holder) in held_in
        ]
    if 0 < len(chosen) <= _PUT_LINES and len({file for file, _ in chosen}) == 1:
        yield chosen[0][0], tuple(sorted(given for _, given in chosen))


def _handed(text: str, known: set[str], held_in: set[str]) -> Iterator[Given]:
    """Calls that hand the tensor, with others, to a function that puts all of them into lists: ``add(obs=obs)``.

    The loop over what it is given (``for key, value in given.items()``) puts each of them there once.
    """
    lists = {*held_in, *(one for name in held_in for one in given_out_by(text, name))}
    for put in puts_in(text):
        if last_part(put.holder) in lists:
            taken = tuple({one for name in put.names for one in given_out_by(text, name)})
            for handed in handed_to(text, put._replace(names=taken), known, ()):
                yield Given(handed.line, handed.end_line, put.holder, handed.value)

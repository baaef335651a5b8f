"""The line that puts tensors into a list, dict or cache where they stay, and the call that hands them to it.

That tensors are kept was seen, and often in what; the statement that put them there calls no torch function, and is
read from the text. It is known where one place only puts something into what is called so, or is the very statement
that made them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gradscope.analysis.index import Index
from gradscope.frames.calls.logged_values import is_in_log, logged_in
from gradscope.frames.names.caching_decorators import cached_functions
from gradscope.frames.names.list_defaults import ListDefault, list_default
from gradscope.frames.names.partly_emptied import PartlyEmptied, partly_emptied
from gradscope.frames.names.put_statements import (
    Handed,
    Put,
    containers_of,
    given_out_by,
    handed_to,
    is_given_what_returns,
    keeps_output_of_hook,
    last_part,
    puts_in,
    returned_by,
)
from gradscope.frames.names.stored_names import assigned_names
from gradscope.recording import NONE
from gradscope.recording.flags import BELOW, EXTERNAL

_ANEW = 3
"""Times that items of one name were other tensors, from which on it was more than one list."""
_HANDED = 3
"""Calls that may have handed something on; where there are more, none of them is the line to change."""


class Keeper(NamedTuple):
    """Where tensors are put that stay."""

    file: int
    put: Put
    handed: tuple[tuple[int, Handed], ...]
    """By file: calls that hand them to the function that puts them there."""
    is_cache: bool = False
    """functools puts there what a function returns."""
    default: ListDefault | None = None
    """Where they are put is the default of an argument, which all calls share."""
    emptied: PartlyEmptied | None = None
    """What empties other lists that are filled beside it."""
    in_generators: bool = False
    """What is put there are generators that were not run to their end: their frames hold the tensors."""


def keeper(
    index: Index, tensors: Sequence[int], names: dict[int, list[tuple[int, int, int]]], alike: Sequence[int] = ()
) -> Keeper | None:
    """The one place that put some tensors where they stay; None where none is known, or more than one.

    Args:
        index: The recording.
        tensors: Results of one call.
        names: For each tensor the names under which it was seen, with op and span.
        alike: All results of that call, of which only the first are matched with names each time.
    """
    known = _names(index, tensors, names) or _names(index, alike, names)
    made = _Made(index, tensors)
    users = [(number, file.text) for number, file in enumerate(index.recording.files) if file.is_user]
    is_logged = 2 * sum(any(is_in_log(index.recording.text(one[0])) for one in names.get(own, ())) for own in tensors)
    puts = logged_in if is_logged > len(tensors) else puts_in
    places = [(number, put) for number, source in users for put in puts(source)]
    containers = _containers(known, len(tensors)) if puts is puts_in else []
    found = _one_of(places, known, containers, made) or made.kept_by_cache(known)
    while found is not None and found[1].selected_from:  # (they were kept in another list before)
        before = [one for one in places if one[1].holder == found[1].selected_from and one != found]
        found = before[0] if len(before) == 1 else None
    if found is None:
        return None
    if found not in places:
        return Keeper(*found, (), is_cache=True)
    handed = [
        (number, call)
        for number, source in users
        for call in handed_to(source, found[1], known, made.lines if number == made.file else ())
    ]
    text, put = index.recording.files[found[0]].text, found[1]
    default = list_default(text, put.line, put.holder)
    emptied = partly_emptied(text, put.line, last_part(put.holder))
    in_generators = 2 * sum(_is_in_generator(index, one, names) for one in tensors) > len(tensors)
    return Keeper(
        *found,
        tuple(handed) if len(handed) <= _HANDED else (),
        default=default,
        emptied=emptied,
        in_generators=in_generators,
    )


class _Made:
    """Where tensors were made."""

    def __init__(self, index: Index, tensors: Sequence[int]) -> None:
        columns = (index.recording.tensors.column(name) for name in ("op", "flags"))
        made_at, flags = columns
        ops = [made_at[one] for one in tensors if not flags[one] & EXTERNAL and made_at[one] < index.op_count]
        statement = index.statements[index.op_statement[ops[-1]]] if ops else index.statements[0]
        self.file = statement.file
        self.lines = frozenset(index.op_line(op) for op in ops)
        self.function = last_part(index.recording.text(statement.function)) if ops else ""

        users = [(number, one.text) for number, one in enumerate(index.recording.files) if one.is_user]
        self._texts = [text for _, text in users]
        self._files = dict(users)
        self._cached = [(number, one, text) for number, text in users for one in cached_functions(text)]
        has_hooks = any("register_forward_hook" in text for text in self._texts)
        is_below = bool(ops) and all(index.recording.ops.column("flags")[op] & BELOW for op in ops)
        self.may_be_of_hooked_module = has_hooks and is_below
        """Modules of a library made them, and the text registers forward hooks, which are given what such make."""

    def given_out_by(self, name: str) -> set[str]:
        """What the items of the program's loops of a name are items of."""
        return {one for text in self._texts for one in given_out_by(text, name)}

    def is_handed_to(self, put: Put, known: Counter[str]) -> bool:
        """Whether a call of the text hands what is called so to the function that puts it there: a meter's update."""
        is_given = bool(put.function) and not set(put.parameters).isdisjoint(put.names)
        return is_given and any(handed_to(text, put, known, ()) for text in self._texts)

    def is_returned_to(self, file: int, put: Put, known: Counter[str]) -> bool:
        """Whether what is put there is what the function around the lines returned, with what is called so."""
        if not is_given_what_returns(self._files[file], put, self.function):
            return False
        stored = {name for line, name in assigned_names(self._files.get(self.file, "")) if line in self.lines}
        return any(not (known.keys() | stored).isdisjoint(returned_by(text, self.function)) for text in self._texts)

    def is_cleared(self, holder: str) -> bool:
        """Whether the text empties what is called so."""
        return any(f"{last_part(holder)}.clear()" in text for text in self._texts)

    @property
    def in_cached_function(self) -> tuple[int, Put] | None:
        """Where it is said that what the function around the lines returns is kept; None where it is nowhere."""
        around = [
            (number, one.put)
            for number, one, _ in self._cached
            if number == self.file
            and one.name == self.function
            and all(one.line <= line <= one.end_line for line in self.lines)
        ]
        return around[0] if len(around) == 1 else None

    def kept_by_cache(self, known: Counter[str]) -> tuple[int, Put] | None:
        """The one function whose results are kept that gave what is called so, or was given it."""
        found = [(number, one.put) for number, one, text in self._cached if one.keeps(text, known)]
        return found[0] if len(found) == 1 else None

    def is_in(self, file: int, put: Put) -> bool:
        return file == self.file and any(put.line <= line <= put.end_line for line in self.lines)


def _names(index: Index, tensors: Sequence[int], names: dict[int, list[tuple[int, int, int]]]) -> Counter[str]:
    """The names of tensors: where most of them are part of something at the end, only those of the end."""
    text = index.recording.text
    last = {one: [text(name) for name, _, span in names.get(one, ()) if span == NONE] for one in tensors}
    if 2 * sum(any("[" in name for name in several) for several in last.values()) > len(tensors):
        named_anyhow = [text(name) for one in tensors for name, _, _ in names.get(one, ()) if "[" not in text(name)]
        return Counter([*(name for several in last.values() for name in several), *named_anyhow])
    return Counter(text(name) for tensor in tensors for name, _, _ in names.get(tensor, ()))


def _is_in_generator(index: Index, tensor: int, names: dict[int, list[tuple[int, int, int]]]) -> bool:
    return any(".gi_frame." in index.recording.text(name) for name, _, _ in names.get(tensor, ()))


def _containers(known: Counter[str], tensors: int) -> list[str]:
    """What the tensors were seen in, the most often seen first.

    A list that was begun anew had its items by the same names each time: it is not what keeps all of them.
    """
    items: dict[str, set[str]] = {}
    counts: Counter[str] = Counter()
    for name, times in known.items():
        for container in containers_of(name):
            items.setdefault(container, set()).add(name)
            counts[container] += times
    seen = dict.fromkeys(one for name, _ in known.most_common() for one in containers_of(name))
    is_one = {one: min(counts[one], tensors) < _ANEW * len(items[one]) for one in seen}
    return sorted((one for one in seen if is_one[one]), key=lambda one: -counts[one])


def _one_of(
    places: list[tuple[int, Put]], known: Counter[str], containers: list[str], made: _Made
) -> tuple[int, Put] | None:
    """The place that is meant: by what the tensors were seen in first, then by what they are called."""
    is_named = False
    for container in containers:
        inside = [place for place in places if last_part(place[1].holder) == container]
        inside = inside or [place for place in places if last_part(place[1].holder) in made.given_out_by(container)]
        is_named |= bool(inside)
        chosen = _narrowed(
            inside, lambda file, put: made.is_in(file, put), lambda _, put: not known.keys().isdisjoint(put.names)
        )
        if chosen is not None:
            return chosen
    if is_named:
        return None
    if made.in_cached_function is not None:
        return made.in_cached_function
    direct = [place for place in places if made.is_in(*place)]
    if direct:
        return direct[0] if len(direct) == 1 else None
    named = [place for place in places if not known.keys().isdisjoint(place[1].names)]
    if not named:  # the dict or tuple that they are part of, made anew each time, is what is put there
        whole = {one for name in known for one in containers_of(name)}
        named = [place for place in places if not whole.isdisjoint(place[1].names)]
    if not named and made.may_be_of_hooked_module:
        named = [place for place in places if keeps_output_of_hook(place[1]) and not made.is_cleared(place[1].holder)]
    if not named and made.function not in ("", "<module>", "<lambda>"):
        named = [place for place in places if made.function in place[1].calls]
        named = named or [place for place in places if made.is_returned_to(*place, known)]
    if not named:
        named = [place for place in places if made.is_handed_to(place[1], known)]
    return named[0] if len(named) == 1 else None


def _narrowed(places: list[tuple[int, Put]], *tests: Callable[[int, Put], bool]) -> tuple[int, Put] | None:
    """The one place, or of several the one that a test holds for."""
    for test in tests:
        if len(places) > 1:
            places = [place for place in places if test(*place)] or places
    return places[0] if len(places) == 1 else None

"""Parameters of a module that a program made once, as a default, and that several of its models hold and train.

The text says in which attribute a default is kept; the names by which a parameter was seen say which objects have it
there. That these are two shows where they hold different tensors by one further name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.index import Index
from gradscope.frames.names.made_defaults import MadeDefault, is_left_out_again, made_defaults, reads_attribute


class SharedDefault(NamedTuple):
    """A default that several objects hold."""

    file: int
    default: MadeDefault
    owners: tuple[str, str] | None
    """Two of these, as the program calls them, with the attribute; None where the text alone tells that there are."""
    tensors: list[int]
    """Parameters of it, which an optimizer steps."""


def shared_defaults(
    index: Index, lives: GradientLives, held: dict[int, list[tuple[int, int, int]]]
) -> Iterator[SharedDefault]:
    """One for each default.

    Args:
        index: The recording.
        lives: Steps of its parameters.
        held: For each tensor the names under which it was seen, with op and span.
    """
    text, named = index.recording.text, dict[str, set[int]]()
    files = [(number, made_defaults(file.text)) for number, file in enumerate(index.recording.files) if file.is_user]
    if not any(defaults for _, defaults in files):
        return
    for tensor, rows in held.items():
        for name in {name for name, _, _ in rows}:
            named.setdefault(text(name), set()).add(tensor)
    for file, defaults in files:
        for default in defaults:
            found: dict[tuple[str, str], list[int]] = {}
            for tensor in lives.steps:
                if _is_made_by(index, tensor, file, default):
                    names = {text(name) for name, _, _ in held.get(tensor, ())}
                    for pair in _owners(names, default.kept_as, named):
                        found.setdefault(pair, []).append(tensor)
            if not found and (reused := _used_by_several(index, lives, file, default)):
                yield SharedDefault(file, default, None, reused)
            if found:
                owners = max(found, key=lambda pair: (len(found[pair]), -len(pair[0])))
                yield SharedDefault(file, default, owners, found[owners])


def _used_by_several(index: Index, lives: GradientLives, file: int, default: MadeDefault) -> list[int]:
    """Parameters of a default of a class that is made several times without that argument, and used so in a round.

    One statement, ``self.act(x)``, took them several times between two passes.
    """
    if not default.kept_as or not is_left_out_again(index.recording.files[file].text, default.line, default.name):
        return []
    found = []
    for tensor in lives.steps:
        if not _is_made_by(index, tensor, file, default):
            continue
        first, *_ = lives.passes[tensor]
        before = Counter(index.op_statement[op] for op in index.users.of(tensor) if op < first)
        own = [at for at, times in before.items() if times > 1 and index.statements[at].file == file]
        if any(reads_attribute(index.place(at).source, default.kept_as) for at in own):
            found.append(tensor)
    return found


def _is_made_by(index: Index, tensor: int, file: int, default: MadeDefault) -> bool:
    """Whether a parameter was made where a default is, or by what that calls."""
    made = index.made_by(tensor)
    if not 0 <= made < index.op_count:
        return False
    where = index.statements[index.op_statement[made]]
    if where.file == file and default.line <= where.line <= default.end_line:
        return True
    return not default.makers.isdisjoint(index.recording.text(where.function).split(".")[-2:])


def _owners(names: set[str], kept_as: frozenset[str], named: dict[str, set[int]]) -> Iterator[tuple[str, str]]:
    """Pairs of objects that have a tensor by the same further name, and are two by what else they hold."""
    by_rest: dict[str, set[str]] = {}
    for name in names:
        for attribute in kept_as:
            owner, dot, rest = name.partition(f".{attribute}.")
            if dot and owner != "self":
                by_rest.setdefault(f"{dot}{rest}", set()).add(owner)
    for rest, owners in by_rest.items():
        attribute = rest[1:].partition(".")[0]
        for one, other in combinations(sorted(owners), 2):
            is_alike = one.partition(".")[0] == other.partition(".")[0] if "." in one or "." in other else True
            if is_alike and one.count(".") == other.count(".") and _are_two(one, other, named):
                yield f"{one}.{attribute}", f"{other}.{attribute}"


def _are_two(one: str, other: str, named: dict[str, set[int]]) -> bool:
    for name, tensors in named.items():
        if name.startswith(f"{one}."):
            others = named.get(f"{other}{name[len(one) :]}")
            if others and tensors.isdisjoint(others):
                return True
    return False

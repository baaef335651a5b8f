"""Results that a list or dict keeps with their graphs, and the line that puts them there."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.analysis.facts.best_names import BestNames
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import parsed
from gradscope.recording import NONE

_PUTS = ("append", "extend", "appendleft", "add", "insert")


class KeptResults(NamedTuple):
    """What one list or dict keeps."""

    container: str
    tensors: tuple[int, ...]
    file: int
    line: int
    """Of the one statement that puts things there, as the text of the program says."""


def kept_results(index: Index, names: BestNames, at_least: int) -> KeptResults | None:
    """The list or dict that keeps most tensors with a graph when the run ends; None where no line is known for it."""
    tensors = index.recording.tensors
    alive = [
        tensor
        for tensor, (node, died) in enumerate(zip(tensors.column("node"), tensors.column("died"), strict=True))
        if node >= 0 and died == NONE and names.is_named(tensor)
    ]
    found: dict[str, list[int]] = {}
    of = names.all_of(alive)
    for tensor, known in of.items():
        for container in {name.rpartition("[")[0] for name in known if "[" in name}:
            found.setdefault(container, []).append(tensor)
    for container, kept in sorted(found.items(), key=lambda pair: -len(pair[1])):
        if len(kept) >= at_least:
            arguments = frozenset(name for tensor in kept for name in of[tensor])
            place = _put_at(index, container.partition("[")[0], among=arguments)
            if place is not None:
                return KeptResults(container, tuple(kept), *place[:2])
    return _by_argument(index, names, alive, at_least)


def _by_argument(index: Index, names: BestNames, alive: list[int], at_least: int) -> KeptResults | None:
    """Results of one statement that are all there, where one line only puts something of their name anywhere.

    What an object of the program's holds is seen by name only where a statement with a torch call reads it.
    """
    found: dict[tuple[int, str], list[int]] = {}
    made_at = index.recording.tensors.column("op")
    for tensor in alive:
        if made_at[tensor] < index.op_count:
            found.setdefault((index.op_statement[made_at[tensor]], names.of(tensor)), []).append(tensor)
    for (_, name), kept in sorted(found.items(), key=lambda pair: -len(pair[1])):
        place = _put_at(index, "", name) if len(kept) >= at_least else None
        if place is not None:
            return KeptResults(place[2], tuple(kept), *place[:2])
    return None


def only_put_into(index: Index, container: str) -> tuple[int, int] | None:
    """File and line of the one statement that puts things into a container of a name; None for none, or several."""
    place = _put_at(index, container)
    return None if place is None else place[:2]


def _put_at(
    index: Index, container: str, argument: str = "", among: frozenset[str] = frozenset()
) -> tuple[int, int, str] | None:
    """The one place in the user's files that puts things into a container of that name, or an argument into any.

    Returns:
        File, line, and what the text calls the container; None for no such place. Of several it is the one that puts
        there what is called as the tensors are (``among``), if that is one.
    """
    last = container.rpartition(".")[2]
    places = []
    for number, file in enumerate(index.recording.files):
        tree = parsed(file.text) if file.is_user else None
        for node in ast.walk(tree) if tree is not None else ():
            holder, arguments = _holder(node), _arguments(node)
            is_wanted = argument in arguments if argument else holder.rpartition(".")[2] == last
            if holder and is_wanted:
                places.append((number, getattr(node, "lineno", 0), holder, not among.isdisjoint(arguments)))
    if len(places) > 1:
        places = [place for place in places if place[3]]
    return places[0][:3] if len(places) == 1 else None


def _arguments(node: ast.AST) -> list[str]:
    """The names that a statement puts somewhere."""
    values = node.args if isinstance(node, ast.Call) else [node.value] if isinstance(node, ast.Assign) else []
    return [ast.unparse(value) for value in values if isinstance(value, ast.Name | ast.Attribute)]


def _holder(node: ast.AST) -> str:
    """What a statement puts something into: ``x`` of ``x.append(y)``, ``x[k] = y`` and ``x += [y]``; else empty.

    Of ``x[k].append(y)`` and ``x.setdefault(k, []).append(y)`` it is ``x`` too.
    """
    value: ast.expr | None = None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _PUTS:
        value = node.func.value
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        value = node.targets[0].value
    elif isinstance(node, ast.AugAssign) and isinstance(node.value, ast.List | ast.Tuple):
        value = node.target
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "setdefault":
        value = value.func.value
    while isinstance(value, ast.Subscript):
        value = value.value
    return ast.unparse(value) if isinstance(value, ast.Name | ast.Attribute) else ""

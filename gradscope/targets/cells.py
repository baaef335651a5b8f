"""Cells: what ``# %% name`` opens, as in VS Code, Jupytext and Spyder."""

from __future__ import annotations

import re
from collections.abc import Container
from difflib import get_close_matches
from itertools import chain, count

from gradscope.errors import TargetError
from gradscope.targets.comments import Comment
from gradscope.targets.program import CodeCell

_MARK = re.compile(r"#\s?%%\s*(?P<name>.*)")
_TYPE = re.compile(r"(?:^|(?<=\s))\[(?P<type>code|markdown|md|raw)\](?:\s+|$)")
"""What Jupytext says of a cell; other brackets belong to its name."""


def find_cells(comments: list[Comment], source: str) -> tuple[CodeCell, ...]:
    """The cells of code of a file, in order: one without a name is called by its number, each has a name of its own."""
    marks = []
    for comment in comments:
        found = _MARK.fullmatch(comment.text.rstrip())
        if found and comment.own_line and comment.column == 0:
            marks.append((comment.line, found["name"]))
    ends = [line - 1 for line, _ in marks[1:]] + [source.count("\n") + 1]
    cells: dict[str, CodeCell] = {}
    for (line, text), end in zip(marks, ends, strict=False):
        kind = _TYPE.search(text)
        if kind is None or kind["type"] == "code":
            name = _unlike(cells, _TYPE.sub("", text).strip() or f"cell {len(cells) + 1}")
            cells[name] = CodeCell(name, line, end)
    return tuple(cells.values())


def _unlike(taken: Container[str], name: str) -> str:
    """The name, or ``name (2)``, ``name (3)`` … where it is taken."""
    numbered = (f"{name} ({number})" for number in count(2))
    return next(one for one in chain([name], numbered) if one not in taken)


def select_cell(source: str, cells: tuple[CodeCell, ...], name: str, path: str) -> str:
    """The source of the set-up and one cell; the other cells are blank lines, so that line numbers stay.

    Raises:
        TargetError: No such cell.
    """
    chosen = next((cell for cell in cells if cell.name == name), None)
    if chosen is None:
        raise TargetError(f"{path} has no cell {name!r}", _other_cells(cells, name, path))
    lines = source.split("\n")
    setup_end = cells[0].line - 1
    kept = {*range(1, setup_end + 1), *range(chosen.line, chosen.end_line + 1)}
    return "\n".join(line if number in kept else "" for number, line in enumerate(lines, 1))


def _other_cells(cells: tuple[CodeCell, ...], name: str, path: str) -> str:
    names = [cell.name for cell in cells]
    if not names:
        return "open a cell with a comment line: # %% name"
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {path}::{close[0]}?"
    return "its cells: " + ", ".join(names)

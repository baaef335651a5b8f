"""Cells: what ``# %% name`` opens, as in VS Code, Jupytext and Spyder."""

from __future__ import annotations

import re
from difflib import get_close_matches

from gradscope.errors import TargetError
from gradscope.targets.comments import Comment
from gradscope.targets.program import Cell

_MARK = re.compile(r"#\s?%%\s*(?P<name>.*)")
_TYPE = re.compile(r"\[(?P<type>\w+)\]\s*")


def find_cells(comments: list[Comment], source: str) -> tuple[Cell, ...]:
    """The cells of a file, in order. One without a name is called by its number."""
    marks = []
    for comment in comments:
        found = _MARK.fullmatch(comment.text.rstrip())
        if found and comment.own_line and comment.column == 0:
            marks.append((comment.line, _TYPE.sub("", found["name"]).strip()))
    ends = [line - 1 for line, _ in marks[1:]] + [source.count("\n") + 1]
    return tuple(
        Cell(name or f"cell {number}", line, end)
        for number, ((line, name), end) in enumerate(zip(marks, ends, strict=False), 1)
    )


def select_cell(source: str, cells: tuple[Cell, ...], name: str, path: str) -> str:
    """The source of the set-up and one cell; the other cells are blank lines, so that line numbers stay.

    Raises:
        TargetError: No such cell.
    """
    chosen = [cell for cell in cells if cell.name == name]
    if not chosen:
        raise TargetError(f"{path} has no cell {name!r}", _other_cells(cells, name, path))
    lines = source.split("\n")
    setup_end = cells[0].line - 1
    kept = set(range(1, setup_end + 1))
    for cell in chosen:
        kept.update(range(cell.line, cell.end_line + 1))
    return "\n".join(line if number in kept else "" for number, line in enumerate(lines, 1))


def _other_cells(cells: tuple[Cell, ...], name: str, path: str) -> str:
    names = [cell.name for cell in cells]
    if not names:
        return "open a cell with a comment line: # %% name"
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {path}::{close[0]}?"
    return "its cells: " + ", ".join(names)

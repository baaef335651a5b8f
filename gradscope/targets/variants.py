"""The cells of a file as programs of their own: each is the set-up and one cell."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches

from gradscope.errors import TargetError, UsageError
from gradscope.targets.cells import select_cell
from gradscope.targets.kinds import CELL, SCRIPT
from gradscope.targets.program import Program


@dataclass(frozen=True)
class CellVariant:
    """One cell, ready to be run after the set-up."""

    name: str
    program: Program
    watches: tuple[str, ...]
    """What the set-up watches outside its functions: it is about every variant, and evaluated when that is over."""


def cell_variants(program: Program, only: Collection[str] = ()) -> tuple[CellVariant, ...]:
    """A file's cells as variants, in the file's order.

    Args:
        program: The whole file.
        only: Names of the cells to take, also several in one with commas between; empty: all.

    Raises:
        TargetError: The file has fewer than two cells.
        UsageError: ``only`` names a cell that is not there.
    """
    names = [cell.name for cell in program.cells]
    if len(names) < 2:
        found = "only one cell" if names else "no cells"
        hint = "open each variant with a comment line: # %% name; or name two files to compare"
        raise TargetError(f"{program.name} has {found} to compare", hint)
    chosen = [name for text in only for name in _named(text, names)]
    if only and not chosen:
        raise UsageError("--only names no cell", "its cells: " + ", ".join(names))
    for name in chosen:
        if name not in names:
            close = get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else "its cells: " + ", ".join(names)
            raise UsageError(f"{program.name} has no cell {name!r}", hint)
    return tuple(_variant(program, name) for name in names if not chosen or name in chosen)


def _named(text: str, names: Collection[str]) -> list[str]:
    """A cell's name may have commas itself."""
    if text.strip() in names:
        return [text.strip()]
    return [name.strip() for name in text.split(",") if name.strip()]


def _variant(program: Program, name: str) -> CellVariant:
    watched = [directive for directive in program.directives if directive.kind == "watch"]
    shared = [item for item in watched if item.line < program.cells[0].line and item.statement_column == 0]
    kept = [
        item
        for item in watched
        if item not in shared and (item.line < program.cells[0].line or _is_in_cell(item.line, name, program))
    ]
    alone = program._replace(
        target=f"{program.target}::{name}",
        name=f"{program.name}::{name}",
        kind=CELL if program.kind == SCRIPT else program.kind,
        source=select_cell(program.source, program.cells, name, program.name),
        cell=name,
        directives=tuple(kept),
    )
    return CellVariant(name, alone, tuple(item.expression for item in shared))


def _is_in_cell(line: int, name: str, program: Program) -> bool:
    return any(cell.name == name and cell.line <= line <= cell.end_line for cell in program.cells)

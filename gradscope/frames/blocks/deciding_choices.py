"""Which ``a if question else b`` on a line did not give the same part to all processes: by what they ran of it."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from gradscope.frames.blocks.rank_branches import asks_for_rank
from gradscope.frames.syntax_trees import parsed

Range = tuple[int, int, int, int]
"""First line, first column, last line, and the column after the last: columns are 0-based and in UTF-8 bytes."""


class DecidingChoice(NamedTuple):
    """One that was not made alike."""

    line: int
    question: str
    """Its condition, as the source has it."""
    asks_for_rank: bool
    took: tuple[str, ...]
    """By process the part that it ran, as the source has it."""


def deciding_choice(text: str, first: int, last: int, ran: Sequence[Collection[Range]]) -> DecidingChoice | None:
    """The first such expression on some lines.

    Args:
        text: Of the file.
        first: The first of the lines.
        last: The last of them.
        ran: By process, what it ran of them.
    """
    for node in _expressions(text, first, last):
        took = [[part for part in (node.body, node.orelse) if any(_is_in(one, part) for one in some)] for some in ran]
        if all(len(parts) == 1 for parts in took) and len({id(parts[0]) for parts in took}) > 1:
            sources = [ast.get_source_segment(text, parts[0]) or "" for parts in took]
            question = ast.get_source_segment(text, node.test) or ""
            return DecidingChoice(
                node.lineno, question, asks_for_rank(node.test), tuple(" ".join(s.split()) for s in sources)
            )
    return None


def _expressions(text: str, first: int, last: int) -> Iterator[ast.IfExp]:
    tree = parsed(text)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.IfExp) and first <= node.lineno <= last:
            yield node


def _is_in(one: Range, part: ast.expr) -> bool:
    line, column, end_line, end_column = one
    end = part.end_lineno or 0, part.end_col_offset or 0
    return column >= 0 and (part.lineno, part.col_offset) <= (line, column) and (end_line, end_column) <= end

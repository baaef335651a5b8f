"""Which ``if`` or loop decided that processes of one program did not run a line equally often.

It is known exactly where the block around the statement was begun equally often by all and the block inside it was
not: lines that run together with the first line of a block tell how often it was begun. Where no such count is known,
nothing is named.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import NamedTuple

from gradscope.frames.blocks.rank_branches import asks_for_rank
from gradscope.frames.blocks.statement_blocks import parse_blocks
from gradscope.frames.syntax_trees import blocks_of, parsed

Counts = tuple[int, ...]
"""How often a line ran, by process."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_CLEAR = (ast.With, ast.AsyncWith, ast.ClassDef)
"""Statements whose body runs whenever they do."""
_KEYWORDS: dict[type[ast.stmt], str] = {
    ast.If: "if",
    ast.For: "for",
    ast.AsyncFor: "for",
    ast.While: "while",
    ast.Match: "match",
}
_CALLERS = 8
"""Functions that are left for the line that calls them, at most."""


class Deciding(NamedTuple):
    """A statement whose block, or what stands behind it, did not run equally often."""

    line: int
    keyword: str
    """``if``, ``for``, ``while``, ``match``."""
    header: str
    """Its first line, as the source has it."""
    asks_for_rank: bool
    """Whether its condition reads a rank."""
    ran: Counts
    """How often what it decides on was begun."""
    begun: Counts | None
    """How often the block around it was; None: once, since it is the file itself."""
    end_line: int
    until: int
    """The last line of the block around it."""
    behind: tuple[int, ...]
    """Lines behind it that run whenever it is over."""


class _Step(NamedTuple):
    """A block on the way to a line."""

    owner: ast.stmt | None
    """What it is a block of; None: the file."""
    block: list[ast.stmt]
    statement: ast.stmt
    """That of its statements in which the line is."""


class _Called(NamedTuple):
    """A function that was not called equally often."""

    name: str
    times: Counts


class DecidingStatements:
    """The statements of one file that decided on runs.

    Args:
        text: Of the file.
        counts_of: The counts of a line; None where no process recorded it.
    """

    def __init__(self, text: str, counts_of: Callable[[int], Counts | None]) -> None:
        self._lines = text.splitlines()
        self._tree = parsed(text)
        self._counts_of = counts_of
        self._together = parse_blocks(text).together

    def of(self, line: int) -> Deciding | None:
        """What decided how often a line ran that some ran more often than others."""
        ran = self._counts_of(line)
        if self._tree is None or ran is None:
            return None
        for _ in range(_CALLERS):
            found = self._decided(list(self._way(self._tree.body, None, line)), line, ran)
            if not isinstance(found, _Called):
                return found
            calls = self._calls(found.name)
            if len(calls) != 1:
                return None
            line, ran = calls[0], found.times
        return None

    def _way(self, block: list[ast.stmt], owner: ast.stmt | None, line: int) -> Iterator[_Step]:
        for statement in block:
            if statement.lineno <= line <= (statement.end_lineno or statement.lineno):
                yield _Step(owner, block, statement)
                for inner in blocks_of(statement):
                    yield from self._way(inner, statement, line)
                return

    def _decided(self, way: list[_Step], line: int, ran: Counts) -> Deciding | _Called | None:
        """The statement, or the function around the line that was not called equally often."""
        if (asked := self._asked_alike(way, line, ran)) is not None:
            return asked
        begun: Counts | None = None
        around: list[ast.stmt] | None = None
        is_known = True
        for step in way:
            if isinstance(step.owner, _FUNCTIONS):
                begun = self._begun(step, line, ran)
                if begun is not None and not _alike(begun):
                    return _Called(step.owner.name, begun)
                is_known = begun is not None
            elif step.owner is not None and not isinstance(step.owner, _CLEAR) and not _is_elif(step):
                inside = self._begun(step, line, ran)
                if inside is not None and not _alike(inside):
                    return self._described(step.owner, inside, begun, around) if is_known else None
                begun, is_known = inside, inside is not None
            around = around if _is_elif(step) else step.block
        jump = self._jump(way[-1], line) if way and is_known else None
        return None if jump is None else self._described(jump, ran, begun, way[-1].block)

    def _asked_alike(self, way: list[_Step], line: int, ran: Counts) -> Deciding | None:
        """The innermost ``if`` that all came to equally often, by its condition's line, and did not leave alike."""
        for step, around in zip(reversed(way), [*reversed(way[:-1]), None], strict=True):
            jump = self._jump_before(step, line)
            if jump is not None and (asked := self._counts_of(jump.lineno)) is not None and _alike(asked):
                behind = self._begun_behind(step, jump, line, ran)
                if behind is not None and not _alike(behind):
                    return self._described(jump, behind, asked, step.block)
            if not isinstance(step.owner, ast.If) or around is None:
                continue
            asked, inside = self._counts_of(step.owner.lineno), self._begun(step, line, ran)
            if asked is not None and _alike(asked) and inside is not None and not _alike(inside):
                return self._described(step.owner, inside, asked, around.block)
        return None

    def _begun_behind(self, step: _Step, jump: ast.stmt, line: int, ran: Counts) -> Counts | None:
        """How often what stands behind a statement of a block was begun."""
        following = step.block[step.block.index(jump) + 1 :]
        first = next((one for one in following if one.lineno in self._together), None)
        lines = [] if first is None else [one for one in self._together[first.lineno] if one >= first.lineno]
        known = (ran if one == line else self._counts_of(one) for one in lines)
        return next((counts for counts in known if counts is not None), None)

    def _begun(self, step: _Step, line: int, ran: Counts) -> Counts | None:
        """How often a block was begun: from the lines that run with its first statement."""
        known = (ran if one == line else self._counts_of(one) for one in self._first_together(step.block))
        return next((counts for counts in known if counts is not None), None)

    def _first_together(self, block: list[ast.stmt]) -> list[int]:
        first = next((one for one in block if one.lineno in self._together), None)
        if first is None:
            return []
        # (a loop has no line of its own here; what stands behind one that may leave the block is no beginning)
        skipped = block[: block.index(first)]
        return [] if any(_leaves(one) for one in skipped) else self._together[first.lineno]

    def _jump(self, step: _Step, line: int) -> ast.stmt | None:
        """The only ``if`` before a line that may leave its block, where the block was begun alike."""
        leaving = self._jump_before(step, line)
        if leaving is None:
            return None
        counts = next((c for one in self._first_together(step.block) if (c := self._counts_of(one))), None)
        return leaving if step.owner is None or (counts is not None and _alike(counts)) else None

    def _jump_before(self, step: _Step, line: int) -> ast.If | None:
        """The only statement before a line that may leave its block, where it is an ``if``."""
        before = step.block[: step.block.index(step.statement)]
        leaving = [one for one in before if _leaves(one)]
        is_one = len(leaving) == 1 and isinstance(leaving[0], ast.If) and step.statement.lineno <= line
        return leaving[0] if is_one else None  # type: ignore[return-value]

    def _calls(self, name: str) -> list[int]:
        """Lines of the statements that call a function."""
        nodes = ast.walk(self._tree) if self._tree is not None else ()
        return [node.lineno for node in nodes if isinstance(node, ast.Call) and _name_of(node.func) == name]

    def _described(
        self, statement: ast.stmt, ran: Counts, begun: Counts | None, around: list[ast.stmt] | None
    ) -> Deciding | None:
        keyword = _KEYWORDS.get(type(statement))
        if keyword is None or around is None:
            return None
        at = next((number for number, one in enumerate(around) if _covers(one, statement.lineno)), len(around) - 1)
        following = around[at + 1 :]
        next_one = next((one for one in following if one.lineno in self._together), None)
        test = getattr(statement, "test", None) or getattr(statement, "iter", None)
        return Deciding(
            statement.lineno,
            keyword,
            self._lines[statement.lineno - 1].strip() if statement.lineno <= len(self._lines) else "",
            test is not None and asks_for_rank(test),
            ran,
            begun,
            around[at].end_lineno or around[at].lineno,
            around[-1].end_lineno or around[-1].lineno,
            tuple(line for line in self._together[next_one.lineno] if line >= next_one.lineno)
            if next_one is not None and not _leaves(statement)
            else (),
        )


def _is_elif(step: _Step) -> bool:
    """Whether a block is nothing but the ``elif`` of an ``if``."""
    owner, block = step.owner, step.block
    return isinstance(owner, ast.If) and block is owner.orelse and len(block) == 1 and isinstance(block[0], ast.If)


def _covers(statement: ast.stmt, line: int) -> bool:
    return statement.lineno <= line <= (statement.end_lineno or statement.lineno)


def _leaves(statement: ast.stmt) -> bool:
    """Whether a statement may leave the block that it stands in, otherwise than by an error."""
    todo: list[tuple[ast.AST, bool]] = [(statement, False)]
    while todo:
        node, in_loop = todo.pop()
        if isinstance(node, ast.Return) or (isinstance(node, (ast.Break, ast.Continue)) and not in_loop):
            return True
        if not isinstance(node, (*_FUNCTIONS, ast.Lambda, ast.ClassDef)):
            inside = in_loop or isinstance(node, (ast.For, ast.AsyncFor, ast.While))
            todo.extend((child, inside) for child in ast.iter_child_nodes(node))
    return False


def _name_of(function: ast.expr) -> str:
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def _alike(counts: Counts) -> bool:
    return len(set(counts)) == 1

"""First and last line and column of an instruction under Python 3.10, whose code objects know its line only.

The text is compiled once more, with the number of each syntax node in the place of its line: what Python then notes as
the line of an instruction is the node that it was made for. Which instruction of the running code that is, is found
line by line: a line on which the two have other instructions (an assertion that pytest rewrote, a file that was changed
since) stays without columns, and so does one of two functions that begin on one line and do the same.

The library ``executing`` finds nodes too, but none for ``x += y``, for loops and for conditions. And it compiles the
whole text anew for each candidate of a statement: 4 to 20 ms for an instruction, where this takes some 0.1 ms for a
line of the text, once.
"""

from __future__ import annotations

import ast
import dis
import warnings
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, NamedTuple

from gradscope.frames.replacements import Replacement
from gradscope.frames.syntax_trees import fresh_tree
from gradscope.frames.tracebacks import PROBE_NAME

_FILENAME = "<gradscope positions>"
_MODULE = "<module>"
_FIRST = 2
"""The first number of a node: Python writes line 1 for a module without statements."""
_LAYOUT = frozenset(("NOP", "EXTENDED_ARG", "JUMP_FORWARD", "JUMP_ABSOLUTE"))
"""Instructions that Python adds and leaves out as the lines before and after them are."""
_JUMPS = frozenset(dis.hasjabs + dis.hasjrel)
_PROBE_STEPS = 4
"""Instructions that a probe is: its name, its number, the call, and what drops the result."""
_PLACED = (ast.expr, ast.stmt, ast.pattern, ast.excepthandler, ast.arg, ast.keyword, ast.alias)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Position(NamedTuple):
    """Where the source of an instruction stands, in the order of ``code.co_positions()``; columns in UTF-8 bytes."""

    line: int
    end_line: int
    col: int
    end_col: int


class _NumberedStep(NamedTuple):
    does: tuple[str, Any]
    """The instruction and what it is done with, in whichever order a code object keeps its names and constants."""
    offset: int
    number: int
    """What its code object has for its line."""


class RecompiledText:
    """The positions of the instructions of one file.

    Args:
        text: The file's, as it was run.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._nodes: _Nodes | None = None
        self._known: dict[CodeType, dict[int, Position]] = {}

    def at(self, code: CodeType, lasti: int) -> Position | None:
        """Where an instruction of code that the text was compiled to stands; None where that cannot be told."""
        known = self._known.get(code)
        if known is None:
            known = self._known[code] = self._of(code)
        return known.get(lasti)

    def _of(self, code: CodeType) -> dict[int, Position]:
        nodes = self._nodes = self._nodes or _Nodes(self._text)
        here = _by_line(code, int)
        twins = [_by_line(one, nodes.line) for one in nodes.codes.get((code.co_name, code.co_firstlineno), ())]
        if len(twins) > 1:
            twins = [one for one in twins if _does(one) == _does(here)]
        if len(twins) != 1:
            return {}
        found: dict[int, Position] = {}
        for line, steps in here.items():
            again = twins[0].get(line, [])
            if [step.does for step in steps] == [step.does for step in again]:
                places = ((step.offset, nodes.position(one)) for step, one in zip(steps, again, strict=True))
                found.update((offset, position) for offset, position in places if position is not None)
        return found


class _Nodes:
    """The syntax nodes of a text by number, and the code in which the numbers stand for lines."""

    def __init__(self, text: str) -> None:
        self._positions: dict[int, Position] = {}
        self._calls: dict[int, Position] = {}
        """Of calls of methods, by the number of the method's name."""
        self._definitions: set[int] = set()
        self.codes: dict[tuple[str, int], list[CodeType]] = {}
        with Replacement(warnings, "_showwarnmsg", _others):
            tree = fresh_tree(text, _FILENAME)
            if tree is None:
                return
            self._number(tree)
            try:
                module = compile(tree, _FILENAME, "exec", dont_inherit=True)
            except (SyntaxError, ValueError, RecursionError, MemoryError):  # (the first also for a warning as an error)
                return
        for code in _all_codes(module):
            self.codes.setdefault((code.co_name, self.line(code.co_firstlineno)), []).append(code)

    def line(self, number: int) -> int:
        """The line of a node; that of a module without statements is 1."""
        position = self._positions.get(number)
        return 1 if position is None else position.line

    def position(self, step: _NumberedStep) -> Position | None:
        """Where the node of an instruction stands; None for the instructions that make a function or a class."""
        if step.number in self._definitions:
            return None
        if step.does[0] == "CALL_METHOD" and step.number in self._calls:
            return self._calls[step.number]
        return self._positions.get(step.number)

    def _number(self, tree: ast.Module) -> None:
        """Put numbers in the place of the lines of all nodes.

        Python takes the end of ``x.y`` for the line of ``y``, and of a call of it: that has a number of its own.
        """
        methods: dict[ast.expr, Position] = {}
        number = _FIRST
        for node in ast.walk(tree):
            if not isinstance(node, _PLACED):
                continue
            whole = _whole(node)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                methods[node.func] = _from_name(node.func, _whole(node.func), whole)
            if isinstance(node, _DEFINITIONS):
                self._definitions.add(number)
            self._positions[number] = whole
            node.lineno = node.end_lineno = number
            number += 1
            if isinstance(node, ast.Attribute):
                self._positions[number] = _from_name(node, whole, whole)
                if node in methods:
                    self._calls[number] = methods[node]
                node.end_lineno = number
                number += 1


def _whole(node: Any) -> Position:
    return Position(node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)


def _from_name(attribute: ast.Attribute, at: Position, whole: Position) -> Position:
    """What an attribute, or a call of it, is for Python: from its name on where that stands on a line of its own."""
    if at.end_line == whole.line:
        return whole
    return whole._replace(line=at.end_line, col=at.end_col - len(attribute.attr.encode()))


def _all_codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _all_codes(inner)


def _by_line(code: CodeType, line_of: Callable[[int], int]) -> dict[int, list[_NumberedStep]]:
    """What a code object does on each line, in its order."""
    numbers = {
        offset: number
        for start, end, number in code.co_lines()
        if number is not None
        for offset in range(start, end, 2)
    }
    found: dict[int, list[_NumberedStep]] = {}
    for offset, does in _instructions(code):
        if (number := numbers.get(offset)) is not None:
            found.setdefault(line_of(number), []).append(_NumberedStep(does, offset, number))
    return found


def _instructions(code: CodeType) -> Iterator[tuple[int, tuple[str, Any]]]:
    """The offsets of instructions, and what they do; without those of probes."""
    rest_of_probe = 0
    for one in dis.get_instructions(code):
        if one.opname in _LAYOUT:
            continue
        if isinstance(one.argval, str) and one.argval.startswith(PROBE_NAME):
            rest_of_probe = _PROBE_STEPS
        if rest_of_probe:
            rest_of_probe -= 1
            continue
        name, value = one.opname, one.argval
        if code.co_name == _MODULE:
            if name == "RETURN_VALUE" or (name == "LOAD_CONST" and value is None):
                continue  # of a part that is run by itself, as in a notebook, each has these at its end
            name = "POP_TOP" if name == "PRINT_EXPR" else name
        if one.opcode in _JUMPS:
            yield one.offset, ("jump" if "JUMP_IF" in name else name, None)
        else:
            yield one.offset, (name, value.co_name if isinstance(value, CodeType) else (type(value), value))


def _does(lines: dict[int, list[_NumberedStep]]) -> dict[int, list[tuple[str, Any]]]:
    return {line: [step.does for step in steps] for line, steps in lines.items()}


def _others(show: Callable[[Any], None]) -> Callable[[Any], None]:
    """What shows a warning, but for what Python says of a text that it compiled before and warned of then."""

    def _showwarnmsg(message: Any) -> None:
        if message.filename != _FILENAME:
            show(message)

    return _showwarnmsg

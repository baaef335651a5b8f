"""Tests of names that end within a number: ``name.startswith("blocks.1")`` holds for ``blocks.10`` as well.

That a test does so is asked of itself, with numbers that no module has: one that holds for ``blocks.1`` followed by any
further digits, and not for those that begin with another digit, looks for a beginning of a number.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from gradscope.frames.modules.freezing_loops import NameTest
from gradscope.frames.syntax_trees import parsed

_NUMBER = re.compile(r"\d{2,}")
_FURTHER = ("73519", "20864")
"""Digits of which no number of a module is made."""


class CutNumber(NamedTuple):
    """Why a test holds for a name."""

    meant: str
    """What was looked for, up to the number: ``blocks.1``."""
    reached: str
    """What else it holds for: ``blocks.10``."""


def cut_number(test: NameTest, name: str, names: Collection[str]) -> CutNumber | None:
    """The number within which a test ends that holds for a name; None where it holds for another reason, or may.

    Args:
        test: The test.
        name: A name that it holds for.
        names: All that it is asked for. One part of them is to have the shorter number, and another one neither.
    """
    for number in _NUMBER.finditer(name):
        before, digits, behind = name[: number.start()], number.group(), name[number.end() :]
        if any(text.rstrip(".").endswith(before + digits) for text in _texts(test)):
            continue  # (it is looked for as well)

        def holds(digits: str, before: str = before, behind: str = behind) -> bool:
            return test.holds_for(before + digits + behind) is True

        others = {
            found.group(1)
            for other in names
            if (found := re.match(rf"{re.escape(before)}(\d+)(?!\d)", other)) is not None
        }
        for length in range(1, len(digits)):
            short = digits[:length]
            is_cut = short in others and holds(short) and all(holds(short + one) for one in _FURTHER)
            if is_cut and any(not holds(one) and not holds(one + _FURTHER[0]) for one in others):
                return CutNumber(before + short, before + digits)
    return None


def lines_with(text: str, sought: str) -> list[int]:
    """The lines of a file where what is sought stands as a text."""
    tree = parsed(text)
    return sorted(
        {
            node.lineno
            for node in (ast.walk(tree) if tree is not None else ())
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value == sought
        }
    )


def _texts(test: NameTest) -> Iterator[str]:
    """The texts that a test looks for."""
    read = {node.id for node in ast.walk(test.test) if isinstance(node, ast.Name)}
    values = [node.value for node in ast.walk(test.test) if isinstance(node, ast.Constant)]
    values += [value for name, value in test.known.items() if name in read]
    for value in values:
        yield from (one for one in (value if isinstance(value, list | tuple) else [value]) if isinstance(one, str))

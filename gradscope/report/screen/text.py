"""Text of a program made safe for a terminal, source highlighted, and the symbols the screens use.

Everything that comes from a program (source, names, messages, values) is data: it is shown as it is, and characters
that a terminal would obey are shown as what they are called (``\\x1b``).
"""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from io import TextIOWrapper
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.syntax import Syntax

_OBEYED = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))
"""Unicode categories of characters that a terminal obeys, hides, or uses to reorder others."""
_NO_CHARACTERS = "\ufffe\uffff"
_JOINER = "\u200d"
_LONGEST_LINE = 1000
"""Characters of a printed line that are shown."""
_SYNTAX_THEME = "ansi_dark"


class Symbols(NamedTuple):
    """Marks on the screens; each stands beside a word or in the legend."""

    arrow: str = "→"
    times: str = "×"
    dots: str = "…"
    dash: str = "–"
    problem: str = "✗"
    warning: str = "!"
    note: str = "·"
    cut: str = "✂"
    differs: str = "≠"
    branch: str = "├─ "
    last: str = "└─ "
    pipe: str = "│  "
    colored: bool = False
    """Source is highlighted: costs the import of a lexer."""


UNICODE = Symbols()
ASCII = Symbols("->", "x", "...", "-", "x", "!", "-", "-/-", "!=", "|- ", "`- ", "|  ")


def symbols(console: Console) -> Symbols:
    """The symbols that a console's encoding can show."""
    marks = UNICODE if console.encoding.lower().startswith("utf") else ASCII
    return marks._replace(colored=console.color_system is not None and not console.no_color)


def allow_any_text(console: Console) -> None:
    """Spell out what a console's encoding cannot express, rather than fail in the middle of a screen."""
    if isinstance(console.file, TextIOWrapper) and not console.encoding.lower().startswith("utf"):
        console.file.reconfigure(errors="backslashreplace")


def safe(text: str, tab: str = "    ") -> str:
    """Text without any character that a terminal would obey or that XML cannot hold: those are spelled out."""
    if text.isascii() and text.isprintable():
        return text
    spelled = []
    for position, character in enumerate(text):
        if character == "\t":
            spelled.append(tab)
        elif character == _JOINER and 0 < position < len(text) - 1 and cell_len(text[position - 1]) == 2:
            spelled.append(character)
        elif character in _NO_CHARACTERS or unicodedata.category(character) in _OBEYED:
            spelled.append(_spell(character))
        else:
            spelled.append(character)
    return "".join(spelled)


def safe_line(text: str) -> str:
    """A line that a program printed, safe, and cut where it is so long that it would fill the screen."""
    left_out = len(text) - _LONGEST_LINE
    return safe(text) if left_out <= 0 else f"{safe(text[:_LONGEST_LINE])} … {left_out} characters left out"


def _spell(character: str) -> str:
    if character in "\n\r":
        return repr(character)[1:-1]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@lru_cache(maxsize=4096)
def source_text(source: str, marks: Symbols) -> Text:
    """Source of a statement on one line, highlighted where there is colour; dots stand for further lines."""
    lines = [line.strip() for line in source.split("\n")]
    first = safe(lines[0])
    text = _highlight(first) if marks.colored else Text(first, no_wrap=True)
    if len(lines) > 1:
        text.append(f" {marks.dots}", style="dim")
    return text


def source_lines(source: str, marks: Symbols) -> list[Text]:
    """A whole source, line by line, highlighted where there is colour."""
    lines = [safe(line) for line in source.split("\n")]
    return [_highlight(line) if marks.colored else Text(line, no_wrap=True) for line in lines]


@cache
def _syntax() -> Syntax:
    from rich.syntax import Syntax

    return Syntax("", "python", theme=_SYNTAX_THEME, background_color="default")


def _highlight(line: str) -> Text:
    text = _syntax().highlight(line)
    text.rstrip()
    text.no_wrap = True
    return text if text.plain == line else Text(line, no_wrap=True)


def cut_to(text: Text, width: int, dots: str = "…", keep_end: bool = False) -> Text:
    """Text of at most ``width`` cells, with dots where it was cut: at its end, or at its start."""
    if text.cell_len <= width:
        return text
    if keep_end:
        start = len(text)
        while start and text[start - 1 :].cell_len <= width - cell_len(dots):
            start -= 1
        return Text.assemble((dots, "dim"), text[start + 1 :])
    shorter = text.copy()
    shorter.truncate(max(0, width - cell_len(dots)))
    shorter.append(dots, style="dim")
    return shorter

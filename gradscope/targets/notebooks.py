"""Notebooks: the cells of code of an ``.ipynb`` file, one after another.

The file is JSON, in which a line has no number that people know. Each cell's lines are numbered from a hundred times
the cell's number on, so that line 302 is the second line of the third cell of code; of a notebook with longer cells,
from a thousand times its number.
"""

from __future__ import annotations

import ast
import json
import re
from difflib import get_close_matches
from typing import Any, NamedTuple

from gradscope.errors import TargetError
from gradscope.targets.program import Snippet

_RUN_AS_CODE = frozenset(("time", "timeit", "capture", "prun", "gradscope"))
"""Cell magics below which stands Python; what is below another is for somebody else."""
_LINE_MAGIC = re.compile(r"\s*(?:[%!]|\?|.*[^\s#?]\?{1,2}\s*$)|\s*[\w, ]+=\s*[%!]")
_TIMED = re.compile(r"(\s*)%time(?:it)?\s+(?!-)(.+)")


class Notebook(NamedTuple):
    """A notebook as it is run."""

    line_count: int
    cells: tuple[Snippet, ...]
    remarks: tuple[str, ...]


class _Cell(NamedTuple):
    number: int
    text: str
    tags: tuple[str, ...]


def is_notebook(name: str) -> bool:
    """Whether a file's name is that of a notebook."""
    return name.endswith(".ipynb")


def read_notebook(text: str, name: str, wanted: str | None = None) -> Notebook:
    """The cells of code of a notebook.

    Args:
        text: The file's.
        name: The file's, for people.
        wanted: The number or a tag of the last cell to run: it may use what those before it define. None: all.

    Raises:
        TargetError: It is no notebook, or of a format that is not read here; it has no such cell, or none at all.
    """
    cells = _code_cells(text, name)
    if not cells:
        raise TargetError(f"{name} has no cell of code")
    step = 100
    while any(cell.text.count("\n") + 2 > step for cell in cells):
        step *= 10
    kept = cells[: _last(cells, wanted, name)]
    remarks = [f"a line's number is {step} times its cell's and the line in it: {step * 3 + 2} is line 2 of cell 3"]
    snippets = []
    for cell in kept:
        code, skipped = _without_magics(cell.text)
        if skipped:
            listed = ", ".join(skipped[:3]) + (f" and {len(skipped) - 3} more" if len(skipped) > 3 else "")
            ran = "was run without what" if code.strip() else "was not run, as it"
            remarks.append(f"cell {cell.number} {ran} is no Python: {listed}")
        if code.strip():
            start = cell.number * step + 1
            ends_run = "raises-exception" not in cell.tags
            snippets.append(Snippet(start, "\n" * (start - 1) + code + "\n", "last", ends_run=ends_run))
    if wanted is not None and len(kept) > 1:
        earlier = "cell 1 was" if len(kept) == 2 else f"cells 1 to {len(kept) - 1} were"
        remarks.append(f"{earlier} run before cell {len(kept)}, which may use what they define")
    return Notebook((len(kept) + 1) * step, tuple(_on_own_line(one) for one in snippets), tuple(remarks))


def _on_own_line(snippet: Snippet) -> Snippet:
    """Its first line that is not blank is where it begins."""
    code = snippet.source.lstrip("\n")
    return snippet._replace(line=snippet.source.index(code) + 1 if code else snippet.line)


def _code_cells(text: str, name: str) -> list[_Cell]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise TargetError(f"{name} is no notebook: {error}") from error
    version = content.get("nbformat") if isinstance(content, dict) else None
    if not isinstance(version, int) or not isinstance(content.get("cells", []), list):
        raise TargetError(f"{name} is no notebook: it does not say which format it has")
    if version < 4:
        hint = f"write it anew with: jupyter nbconvert --to notebook {name}"
        raise TargetError(f"{name} is a notebook of format {version}, of before 2015", hint)
    language = _at(_at(content, "metadata"), "kernelspec").get("language", "python")
    if language != "python":
        raise TargetError(f"{name} is a notebook in {language}, not in Python")
    found = [cell for cell in content.get("cells", []) if isinstance(cell, dict) and cell.get("cell_type") == "code"]
    return [_Cell(number, _text(cell), _tags(cell)) for number, cell in enumerate(found, 1)]


def _at(content: dict[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _text(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    return text.replace("\r\n", "\n").rstrip("\n")


def _tags(cell: dict[str, Any]) -> tuple[str, ...]:
    tags = _at(cell, "metadata").get("tags", [])
    return tuple(map(str, tags)) if isinstance(tags, list) else ()


def _last(cells: list[_Cell], wanted: str | None, name: str) -> int:
    if wanted is None:
        return len(cells)
    found = [cell.number for cell in cells if wanted in cell.tags or wanted == str(cell.number)]
    if found:
        return found[-1]
    tags = list(dict.fromkeys(tag for cell in cells for tag in cell.tags))
    close = get_close_matches(wanted, tags, n=1)
    known = f"its cells of code: 1 to {len(cells)}" + (f"; its tags: {', '.join(tags)}" if tags else "")
    raise TargetError(f"{name} has no cell {wanted!r}", f"did you mean {name}::{close[0]}?" if close else known)


def _without_magics(text: str) -> tuple[str, list[str]]:
    """The Python of a cell, on the lines where it stands, and what is none."""
    lines = text.split("\n")
    skipped = []
    first = next((at for at, line in enumerate(lines) if line.strip()), 0)
    if lines[first].startswith("%%"):
        skipped.append(lines[first].strip())
        if lines[first][2:].split(" ")[0].strip() not in _RUN_AS_CODE:
            return "", skipped
        lines[first] = ""
    if _is_python("\n".join(lines)):
        return "\n".join(lines), skipped
    for at, line in enumerate(lines):
        timed = _TIMED.fullmatch(line)
        if timed:
            lines[at] = timed[1] + timed[2]
        elif _LINE_MAGIC.match(line):
            skipped.append(line.strip())
            lines[at] = line[: len(line) - len(line.lstrip())] + "pass"
    return "\n".join(lines), skipped


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True

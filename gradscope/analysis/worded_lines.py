"""Line numbers that know their file, and how a sentence names them: ``line 10``, or ``line 10 of model.py``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import PurePath

from gradscope.analysis.wording import listed
from gradscope.recording import Recording


class NamedLine(int):
    """A line of a file: a number that, as text, names its file wherever that is not the program's main one.

    ``f"line {line}"`` reads ``line 10 of model.py``; ``f"{file}:{line:d}"`` is for where the file stands beside it.
    Lines of two files are never equal; beside plain numbers, and in JSON, it is the number that it is.
    """

    of: str
    """What the file is called in a sentence; empty for the main file."""

    def __new__(cls, number: int, of: str = "") -> NamedLine:
        """A line of the file that is called so in sentences."""
        line = super().__new__(cls, number)
        line.of = of
        return line

    def __str__(self) -> str:
        return f"{int(self)} of {self.of}" if self.of else int.__repr__(self)

    def __format__(self, spec: str) -> str:
        return int.__format__(self, spec) if spec else str(self)

    def __eq__(self, other: object) -> bool:
        return int(self) == other and not (isinstance(other, NamedLine) and other.of != self.of)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__


def numbers(lines: Iterable[int], *, at_most: int | None = None) -> str:
    """Several lines after the word: ``3 and 5``, ``3 and 5 of model.py and 7 of losses.py``; each once, in order.

    Args:
        lines: The lines.
        at_most: More than so many are not named, and dots stand for them.
    """
    known = sorted(dict.fromkeys(lines), key=lambda line: (getattr(line, "of", ""), line))
    shown = known[:at_most]
    by_file: dict[str, list[str]] = {}
    for line in shown:
        by_file.setdefault(getattr(line, "of", ""), []).append(f"{line:d}")
    dots = " …" * (len(shown) < len(known))
    if set(by_file) == {""} and at_most:
        return ", ".join(by_file[""]) + dots
    return listed([f"{listed(group)}{f' of {of}' if of else ''}" for of, group in by_file.items()]) + dots


def stretch(first: int, last: int) -> str:
    """A line, or all from one to another: ``line 3``, ``lines 3 to 7 of model.py``."""
    if first == last:
        return f"line {first}"
    is_one_file = getattr(first, "of", "") == getattr(last, "of", "")
    return f"lines {first:d} to {last}" if is_one_file else f"lines {first} to {last}"


def short_place(file: str, line: int) -> str:
    """A place in a column of a table, ``model.py:8``: its file as sentences call it, and of the main one the name."""
    return f"{getattr(line, 'of', '') or PurePath(file).name}:{line:d}"


class FileNames:
    """How the files of one recording are called in sentences about lines."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    @cached_property
    def of(self) -> tuple[str, ...]:
        """For each file its name: as much of the path as tells it from the others; empty for the main one."""
        files = self._recording.files
        paths = [PurePath(file.name).parts or ("",) for file in files]
        main = self._main()
        return tuple("" if at == main else _told_apart(path, paths) for at, path in enumerate(paths))

    def _main(self) -> int:
        """The file that the program is, among those that were seen; -1 where lines of it were not, or it has no name.

        Nobody names the file of a module or folder that is run (its ``__main__.py``); where one file is all that was
        seen, and nothing was named, it is that.
        """
        info, files = self._recording.info, self._recording.files
        target = info.target.partition("::")[0]
        is_module = info.kind == "module"
        named = PurePath(f"{target.removeprefix('-m ').replace('.', '/')}.py" if is_module else target)
        ends = named.parts[named.parts.count("..") :]
        for at, file in enumerate(files):
            if target and target in (file.path, file.name):
                return at
        for at, file in enumerate(files):
            parts = PurePath(file.path).parts
            is_scenario = not is_module and not named.suffix and parts[-1:] == (f"{named}.py",)
            if is_scenario or (ends and parts[-len(ends) :] == ends):
                return at
        return 0 if len(files) == 1 and (not target or info.kind in _UNNAMED) else -1


_UNNAMED = ("code", "stdin")
"""Kinds of target whose one file has no name that the user gave."""


def line_of(recording: Recording, file: int, number: int) -> NamedLine:
    """One line of a file of a recording, where there is no index that knows the names."""
    return NamedLine(number, FileNames(recording).of[file])


def _told_apart(path: Sequence[str], paths: Sequence[Sequence[str]]) -> str:
    others = [other for other in paths if other != path]
    for count in range(1, len(path)):
        end = path[-count:]
        if not any(other[-count:] == end for other in others):
            return "/".join(end)
    return str(PurePath(*path))

"""Targets of ``check``: what has expectations, also within folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from gradscope.errors import TargetError
from gradscope.targets.program import Program
from gradscope.targets.resolve import resolve

_EXPECT = re.compile(rb"#\s*expect:")
_SKIPPED = frozenset(("__pycache__", "site-packages", "node_modules", "build", "dist"))


def find_expecting(
    targets: Sequence[str], *, is_code: bool = False, is_module: bool = False, passes_over: bool = False
) -> list[Program]:
    """The programs that are named, and those with expectations in the folders that are named.

    Args:
        targets: Files, ``file.py::cell``, scenarios, folders, ``-``.
        is_code: Each target is Python code.
        is_module: Each target is the name of a module.
        passes_over: Leave out the files that are named and have no expectation.

    Raises:
        TargetError: A target cannot be found, read, or compiled, or nothing in a folder has an expectation.
    """
    if is_code:
        return [resolve("-c", code=target) for target in targets]
    if is_module:
        return [resolve(f"-m {target}", module=target) for target in targets]
    found: dict[tuple[str, str], Program] = {}
    for target in targets:
        if passes_over and _has_none(Path(target)):
            continue
        for program in _in_folder(Path(target)) if target and Path(target).is_dir() else [resolve(target)]:
            found.setdefault((program.filename, program.cell), program)
    return list(found.values())


def has_expectations(program: Program) -> bool:
    """Whether a program has an ``# expect:`` comment."""
    return any(directive.kind == "expect" for directive in program.directives)


def _has_none(path: Path) -> bool:
    """Whether it is a file without an expectation: seen in its text, as it may be no Python of this version."""
    return path.is_file() and not (_EXPECT.search(path.read_bytes()) and has_expectations(resolve(str(path))))


def _in_folder(folder: Path) -> list[Program]:
    candidates = [resolve(str(path)) for path in _files(folder) if _EXPECT.search(path.read_bytes())]
    programs = [program for program in candidates if has_expectations(program)]
    if not programs:
        raise TargetError(f"no file in {folder} has an expectation", "write one behind a statement: # expect: EXPR")
    return programs


def _files(folder: Path) -> Iterator[Path]:
    """Every Python file, the folders' own first; hidden, installed and generated ones are left out."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: (entry.is_dir(), entry.name))
    except OSError as error:
        raise TargetError(f"{folder}: {error.strerror or error}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            if entry.name not in _SKIPPED and not (entry / "pyvenv.cfg").exists():
                yield from _files(entry)
        elif entry.suffix == ".py" and entry.is_file():
            yield entry

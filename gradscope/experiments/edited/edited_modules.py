"""The user's own modules with other source than their files have, as long as one process lives."""

from __future__ import annotations

import linecache
import os
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from importlib.machinery import SourceFileLoader
from types import CodeType
from typing import Any

from gradscope.frames.replacements import Replacement
from gradscope.hosting.probes import InsertedProbes, Probe
from gradscope.targets.edited import EditedSource


def replace_modules(edited: Mapping[str, EditedSource], probes: Mapping[str, Sequence[Probe]] | None = None) -> None:
    """Let the import system find other code in some files, and tracebacks other lines; caches are not touched.

    It ends with the process: whoever calls this has one for the program alone.

    Args:
        edited: By file name.
        probes: What is called at a statement of a file, muted, by file name; of one that is edited, too.
    """
    known = {os.path.realpath(filename): source for filename, source in edited.items()}
    looked = {os.path.realpath(filename): called for filename, called in (probes or {}).items()}
    if not known:
        return

    def finding(get_code: Callable[..., Any]) -> Callable[..., Any]:
        def found(loader: Any, fullname: str) -> Any:
            path = os.path.realpath(loader.path)
            source = known.get(path)
            return get_code(loader, fullname) if source is None else _code(source, loader.path, looked.get(path, ()))

        return found

    Replacement(SourceFileLoader, "get_code", finding)


def _code(source: EditedSource, filename: str, probes: Sequence[Probe]) -> CodeType:
    show_lines(filename, source.text)
    inserted = InsertedProbes(probes, filename)
    inserted.install()
    return inserted.compile(deepcopy(source.parsed(filename)))


def show_lines(filename: str, text: str) -> None:
    """Let tracebacks and recordings take a text for that of a file; without a time it is never asked for again."""
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)

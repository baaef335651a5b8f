"""The user's own modules with other source than their files have, as long as one process lives."""

from __future__ import annotations

import linecache
import os
from collections.abc import Callable, Mapping
from importlib.machinery import SourceFileLoader
from types import CodeType
from typing import Any

from gradscope.frames.replacements import Replacement
from gradscope.targets.edited import EditedSource


def replace_modules(edited: Mapping[str, EditedSource]) -> None:
    """Let the import system find other code in some files, and tracebacks other lines; caches are not touched.

    It ends with the process: whoever calls this has one for the program alone.

    Args:
        edited: By file name.
    """
    if not edited:
        return
    known = {os.path.realpath(filename): source for filename, source in edited.items()}

    def finding(get_code: Callable[..., Any]) -> Callable[..., Any]:
        def found(loader: Any, fullname: str) -> Any:
            source = known.get(os.path.realpath(loader.path))
            return get_code(loader, fullname) if source is None else _code(source, loader.path)

        return found

    Replacement(SourceFileLoader, "get_code", finding)


def _code(source: EditedSource, filename: str) -> CodeType:
    show_lines(filename, source.text)
    return compile(source.parsed(filename), filename, "exec", dont_inherit=True)


def show_lines(filename: str, text: str) -> None:
    """Let tracebacks and recordings take a text for that of a file; without a time it is never asked for again."""
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)

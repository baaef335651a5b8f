"""Call sites: where an op's call stands in the user's code, computed once for each instruction."""

from __future__ import annotations

import builtins
import linecache
import re
import sys
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

from gradscope.frames.code_names import qualified_name
from gradscope.frames.statements import Source, SourceStatement, parse_source
from gradscope.frames.tracebacks import CALL_NAME
from gradscope.recorder.places.code_owners import CodeOwners, Owner
from gradscope.recorder.tape import Tape
from gradscope.recording import SourceFile
from gradscope.recording.rows import Span
from gradscope.recording.tables import NONE

if sys.version_info < (3, 11):
    from gradscope.frames.instruction_positions import RecompiledText

Call = Callable[[Any, Any, Any], Any]
_DECORATOR_LINES = 50
"""Lines above a function's ``def`` in which its decorators are looked for."""


class Site:
    """One instruction of the user's code (or of torch's) that calls a torch function."""

    __slots__ = ("file", "function", "inner", "meets_unseen", "seen", "span", "statement")

    def __init__(self, span: int, inner: int, file: int, statement: SourceStatement, function: str) -> None:
        self.span = span
        self.inner = inner
        self.file = file
        self.statement = statement
        self.function = function
        self.seen = 0
        self.meets_unseen = False
        """Something was entered here that no seen op made, or after what is stored here: it is looked for in every run,
        not in the first only."""


class SourceFiles:
    """Files of the user's code: their text as it was run, and their statements."""

    def __init__(self, tape: Tape, texts: Mapping[str, str]) -> None:
        self._tape = tape
        self._texts = texts
        self._ids: dict[str, int] = {}
        self._parsed: dict[int, Source] = {}
        self._compiled: dict[int, RecompiledText] = {}

    def file(self, filename: str, is_user: bool) -> int:
        """The id of a file, its text read when it is first met."""
        known = self._ids.get(filename)
        if known is None:
            file = SourceFile(filename, _short(filename), self.text(filename), is_user)
            files = self._tape.recording.files
            known = self._ids[filename] = len(files)
            files.append(file)
        return known

    def text(self, filename: str) -> str:
        """The text of a file as it was run; empty where it is not known."""
        text = self._texts.get(filename)
        return "".join(linecache.getlines(filename)) if text is None else text

    def parsed(self, file: int) -> Source:
        """The statements of a file."""
        known = self._parsed.get(file)
        if known is None:
            known = self._parsed[file] = parse_source(self._tape.recording.files[file].text)
        return known

    def positions(self, file: int, frame: FrameType) -> tuple[int, int, int, int]:
        """First line, last line, first and last column of the instruction that a frame is at.

        The columns are -1 where they are not known.
        """
        code, lasti, line = frame.f_code, frame.f_lasti, frame.f_lineno
        if sys.version_info >= (3, 11):
            found = next(islice(code.co_positions(), lasti // 2, None), (None, None, None, None))
            start, end, col, end_col = found
            first = start or line or 0
            return first, end or first, NONE if col is None else col, NONE if end_col is None else end_col
        compiled = self._compiled.get(file)
        if compiled is None:
            compiled = self._compiled[file] = RecompiledText(self._tape.recording.files[file].text)
        return compiled.at(code, lasti) or (line or 0, line or 0, NONE, NONE)


class SpanTable:
    """Spans of instructions, each once."""

    def __init__(self, tape: Tape, sources: SourceFiles, owners: CodeOwners) -> None:
        self._tape = tape
        self.sources = sources
        self.text = tape.text
        self._owners = owners
        self._spans: dict[tuple[int, int], tuple[int, int, SourceStatement]] = {}
        self._shared: dict[Span, int] = {}
        self._count = 0

    def of(self, frame: FrameType) -> tuple[int, int, SourceStatement]:
        """Span id, file id and statement of the instruction that a frame is at."""
        code = frame.f_code
        key = (id(code), frame.f_lasti)
        known = self._spans.get(key)
        if known is None:
            is_user = self._owners.of(code) in (Owner.USER, Owner.HELPER)
            file = self.sources.file(code.co_filename, is_user)
            line, end_line, col, end_col = self.sources.positions(file, frame)
            source = self.sources.parsed(file) if is_user else None
            statement = SourceStatement(line, end_line) if source is None else source.at(line, col)
            function = self._tape.text(qualified_name(code, frame, source))
            known = self._spans[key] = (
                self.add(Span(file, line, end_line, col, end_col, statement.line, statement.end_line, function)),
                file,
                statement,
            )
        return known

    def text_at(self, frame: FrameType) -> str:
        """The source of the instruction that a frame is at, or of its lines where the columns are not known."""
        _, file, _ = self.of(frame)
        return self._tape.recording.excerpt(file, *self.sources.positions(file, frame))

    def of_decorator(self, code: CodeType, wanted: re.Pattern[str]) -> tuple[int, int, SourceStatement] | None:
        """Span id, file id and statement of the decorator of a user's function whose source matches; None for none."""
        file = self.sources.file(code.co_filename, True)
        lines = self._tape.recording.files[file].text.split("\n")
        line, first = 0, code.co_firstlineno  # the first decorator's
        for number in range(first, min(first + _DECORATOR_LINES, len(lines) + 1)):
            text = lines[number - 1].lstrip()
            if text.startswith(("def ", "async def ")):
                break
            if text.startswith("@") and wanted.search(text):
                line = number
                break
        if not line:
            return None
        statement = SourceStatement(line, line)
        return self.shared(Span(file, line, line, NONE, NONE, line, line, self.text(code.co_name))), file, statement

    def shared(self, span: Span) -> int:
        """The id of a span that is looked up by its content."""
        known = self._shared.get(span)
        if known is None:
            known = self._shared[span] = self.add(span)
        return known

    def add(self, span: Span) -> int:
        """Append a span and return its id."""
        self._tape.pending["spans"] += span
        self._count += 1
        return self._count - 1


def _short(filename: str) -> str:
    """The file's name for people: relative to the current folder where it lies under it."""
    if filename.startswith("<"):
        return filename
    try:
        return str(Path(filename).resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return filename


class Callers:
    """Functions that call a torch function in place of the code that called it.

    torch's C++ puts a warning down to the Python frame that called it, and its Python code to a frame a fixed number of
    levels up. The frame that calls the real function therefore carries file name, line and module of the caller, so
    that warnings name the user's line, as they do without gradscope, and are shown once a line, as Python does.
    """

    def __init__(self) -> None:
        self._globals: dict[tuple[str, str], dict[str, Any]] = {}

    def make(self, frame: FrameType) -> Call:
        """A function ``(func, args, kwargs) -> func(*args, **kwargs)`` that looks like the given frame."""
        filename = frame.f_code.co_filename
        module = str(frame.f_globals.get("__name__"))
        space = self._globals.setdefault((filename, module), {"__name__": module, "__builtins__": builtins})
        # The body is one line, so moving the first line moves all of it.
        code = _TEMPLATE.replace(co_filename=filename, co_name=CALL_NAME, co_firstlineno=frame.f_lineno or 1)
        call: Call = FunctionType(code, space)
        return call


def share_warnings(call: Call, frame: FrameType) -> None:
    """Let a frame and the function that looks like it know of the same warnings, each of which is shown once.

    For who calls now by the one and now from the other. Nothing is put into a module that had no warning.
    """
    space, own = call.__globals__, frame.f_globals
    through, known = space.get(_SHOWN), own.get(_SHOWN)
    if known is None:
        if through:
            own[_SHOWN] = through
    elif through is not known:
        known.update(through or {})
        space[_SHOWN] = known


_SHOWN = "__warningregistry__"
_TEMPLATE = (lambda func, args, kwargs: func(*args, **kwargs) if kwargs else func(*args)).__code__

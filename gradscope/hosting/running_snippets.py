"""Running a program snippet by snippet: prompts, cells of a notebook, blocks of a page, examples of docstrings."""

from __future__ import annotations

import ast
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from gradscope.frames.tracebacks import clean_exception
from gradscope.hosting.main_module import run_code
from gradscope.hosting.probes import InsertedProbes
from gradscope.targets.program import Program, Snippet

_LONGEST = 2000
"""Characters of what a snippet printed that are kept."""


class SnippetRun(NamedTuple):
    """How one snippet ran."""

    snippet: Snippet
    printed: str
    error_type: str
    message: str
    error_line: int
    """The innermost line of the program's own source; 0 where nothing was raised."""

    @property
    def detail(self) -> dict[str, Any]:
        """What a recording keeps of it."""
        return {
            "line": self.snippet.line,
            "end_line": self.snippet.end_line,
            "shown": self.snippet.shown[:_LONGEST],
            "printed": self.printed,
            "error_type": self.error_type,
            "message": self.message,
            "error_line": self.error_line,
        }


def run_snippets(
    program: Program, module: ModuleType, probes: InsertedProbes, note: Callable[[SnippetRun], None]
) -> None:
    """Run each snippet as the REPL or IPython would.

    An error is shown and does not end the run, except where the snippet says so: then it passes through.

    Args:
        program: Of a kind that is run in snippets.
        module: The program's ``__main__``.
        probes: Compiled into the snippets.
        note: Takes each, as soon as it has run.
    """
    if program.kind.has_display:
        module.__dict__["display"] = _display
    groups: dict[str, dict[str, Any]] = {"": module.__dict__}
    shared = vars(_documented(program.examples_of)) if program.examples_of else module.__dict__
    for snippet in program.snippets:
        names = groups.setdefault(snippet.group, {**shared, "__name__": "__main__"})
        error: BaseException | None = None
        with _heard() as printed:
            try:
                for code in _codes(snippet, program, probes):
                    run_code(code, names)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as raised:
                error = raised
        note(_noted(snippet, "".join(printed), error, program.filename))
        if error is None:
            continue
        if snippet.ends_run:
            raise error
        clean_exception(error)
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
        _show_as_repl(error)


def _codes(snippet: Snippet, program: Program, probes: InsertedProbes) -> Iterator[Any]:
    statements = _parsed(snippet, program.filename)
    if program.tree is not None:
        last = snippet.end_line
        statements = [known for known in program.parsed().body if snippet.line <= known.lineno <= last]
    for at, statement in enumerate(statements):
        is_shown = snippet.echo == "all" or (snippet.echo == "last" and at == len(statements) - 1)
        yield probes.compile(ast.Module([statement], []), "single" if is_shown else "exec")


def _parsed(snippet: Snippet, filename: str) -> list[ast.stmt]:
    try:
        return ast.parse(snippet.source, filename).body
    except SyntaxError as error:
        # Python would read the line from the file, with the prompt.
        error.text = snippet.source.split("\n")[(error.lineno or 1) - 1]
        raise error.with_traceback(None) from None


def _noted(snippet: Snippet, printed: str, error: BaseException | None, filename: str) -> SnippetRun:
    printed = printed.rstrip("\n")[:_LONGEST]
    if error is None:
        return SnippetRun(snippet, printed, "", "", 0)
    line = error.lineno or snippet.line if isinstance(error, SyntaxError) else snippet.line
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == filename:
            line = trace.tb_lineno
        trace = trace.tb_next
    try:
        message = str(error.msg if isinstance(error, SyntaxError) else error)
    except Exception:  # the program's own __str__
        message = ""
    return SnippetRun(snippet, printed, type(error).__qualname__, message[:_LONGEST], line)


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What is written to standard output, which stays the object that it is."""
    stream, written = sys.stdout, list[str]()
    write = getattr(stream, "write", None)

    def heard(text: str) -> Any:
        if len(written) < _LONGEST:
            written.append(text)
        return write(text) if write is not None else len(text)

    try:
        stream.write = heard  # type: ignore[method-assign]
    except (AttributeError, TypeError):  # no standard output, or one that takes no attributes
        yield written
        return
    try:
        yield written
    finally:
        if stream.__dict__.get("write") is heard:
            del stream.write


def _documented(path: str) -> ModuleType:
    """The module whose docstrings have the examples, imported as ``doctest`` imports it."""
    name = Path(path).stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported", path=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _display(*values: Any) -> None:
    """What IPython gives a notebook to show values with."""
    for value in values:
        print(repr(value))


def _show_as_repl(error: BaseException) -> None:
    if sys.stdout is not None:
        sys.stdout.flush()
    traceback.print_exception(type(error), error, error.__traceback__)

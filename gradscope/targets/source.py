"""Reading source files as Python does, and saying clearly what is wrong with one that cannot be run."""

from __future__ import annotations

import ast
import io
import tokenize
import traceback
import warnings
from pathlib import Path

from gradscope.errors import SourceError, TargetError
from gradscope.frames import syntax_trees

_ENCODING_HINT = "save it as UTF-8, or declare its encoding on the first line (PEP 263)"
_SQLITE = b"SQLite format 3\0"
RECORDING_SUFFIX = ".gradscope"
"""A file of this name is a recording, also where it is damaged: it is never taken for source."""


def read_file(path: Path) -> bytes:
    """The bytes of a source file.

    Raises:
        TargetError: It cannot be read, or is no text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror or error}") from error
    if data.startswith(_SQLITE) or path.suffix == RECORDING_SUFFIX:
        raise TargetError(f"{path} is no program but a recording", f"show it with: gradscope report {path}")
    return data


def decode(data: bytes, name: str) -> str:
    r"""Source text with ``\n`` line ends, decoded as Python would (PEP 263).

    Raises:
        SourceError: It is binary, or not in the encoding that it declares.
    """
    if b"\0" in data:
        raise SourceError(f"{name} is a binary file, not Python source")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    except SyntaxError as error:
        reason = error.msg.replace("invalid or missing encoding declaration", "not UTF-8, and no encoding is declared")
        raise SourceError(f"{name}: {reason}", _ENCODING_HINT) from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"{name}, line {line}: not valid {error.encoding}: {error.reason} ({data[error.start]:#04x})"
        raise SourceError(message, _ENCODING_HINT) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse(source: str, filename: str) -> ast.Module:
    """Parse and compile source to know whether Python takes it; nothing is run and no warning is shown.

    Raises:
        SyntaxError: With the position.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = syntax_trees.parse(source, filename)
            compile(tree, filename, "exec", dont_inherit=True)
        except (ValueError, OverflowError) as error:
            raise SyntaxError(str(error), (filename, 1, 1, "")) from error
        except (RecursionError, MemoryError) as error:
            raise SyntaxError("too deeply nested for Python's parser", (filename, 1, 1, "")) from error
    return tree


def syntax_error(error: SyntaxError, name: str) -> SourceError:
    """The error that shows a syntax error as Python does: file, line, caret."""
    shown = "".join(traceback.format_exception_only(type(error), error)).rstrip("\n")
    return SourceError(f"{name} is not valid Python\n{shown}", shown=shown)

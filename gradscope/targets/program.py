"""A program: what a target was resolved to, ready to be compiled and run."""

from typing import Literal, NamedTuple

from gradscope.frames.whose_file import is_beside
from gradscope.targets.kinds import Kind


class CodeCell(NamedTuple):
    """A part of a file that ``# %% name`` opens."""

    name: str
    line: int
    """Line of the ``# %%`` comment."""
    end_line: int
    """The last line before the next cell, or of the file."""


class Directive(NamedTuple):
    """A ``# expect:`` or ``# watch:`` comment, and the statement that it follows."""

    kind: Literal["expect", "watch"]
    expression: str
    line: int
    """Line of the comment."""
    statement_line: int
    statement_column: int
    """Where the statement begins, in UTF-8 bytes like the AST."""
    before: bool = False
    """The expression belongs before the statement: it stands at the head of a block whose first statement that is, or
    the statement leaves the block (``return``, ``raise``, ``break``, ``continue``)."""
    class_name: str = ""
    """The innermost class around the statement, which private names belong to."""


class TranscriptStatement(NamedTuple):
    """What stood behind one ``>>>`` prompt."""

    line: int
    source: str
    """Without the prompts, preceded by as many empty lines as put it on its line in the transcript."""


class Program(NamedTuple):
    """What a target was resolved to."""

    target: str
    """As the user named it."""
    kind: Kind
    filename: str
    """The file name that the code is compiled with: what tracebacks show."""
    name: str
    """For people: ``train.py``, ``train.py::cell``, ``pkg.module``, ``<string>``."""
    source: str
    """The source text as it is run: without the other cells, or only the statements of a transcript."""
    argv0: str
    path0: str
    """``sys.path[0]``"""
    title: str = ""
    """The first line of the docstring."""
    tags: tuple[str, ...] = ()
    cells: tuple[CodeCell, ...] = ()
    """Every cell of the file, also when the program is but one of them."""
    directives: tuple[Directive, ...] = ()
    cell: str = ""
    module: str = ""
    """The module's name for ``-m``; ``__main__`` for a folder with a ``__main__.py``."""
    statements: tuple[TranscriptStatement, ...] = ()
    user_root: str | None = None
    """The folder whose files count as the user's code."""

    @property
    def text_differs_from_file(self) -> bool:
        """Whether the source that is run cannot be read from ``filename``."""
        return self.kind.differs_from_file

    def is_user(self, filename: str) -> bool:
        """Whether code of this file is the user's: the target and what lies beside it, not what is installed."""
        return filename == self.filename or (self.user_root is not None and is_beside(filename, self.user_root))

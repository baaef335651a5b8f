"""A program: what a target was resolved to, ready to be compiled and run."""

import ast
from copy import deepcopy
from typing import Literal, NamedTuple

from gradscope.frames.own_packages import NO_PACKAGES, NamedPackages, is_own
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


class Snippet(NamedTuple):
    """A part of a target that is run by itself: what stood behind a prompt, a cell of a notebook, a block of a page."""

    line: int
    source: str
    """Without prompts and the like, preceded by as many empty lines as put it on its line in the program's source."""
    echo: Literal["all", "last", "none"] = "all"
    """Of which expressions the value is shown: of all, as the REPL does, of one that ends it, as IPython does, or of
    none."""
    shown: str = ""
    """What the page shows below it; empty where that is nothing, or not known."""
    ends_run: bool = False
    """An error in it ends the run."""
    group: str = ""
    """Those of one group have names of their own; empty: those of ``__main__``."""

    @property
    def code(self) -> str:
        """The source alone."""
        return self.source.lstrip("\n")

    @property
    def end_line(self) -> int:
        """Its last line."""
        return self.line + self.code.rstrip("\n").count("\n")


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
    snippets: tuple[Snippet, ...] = ()
    """Where its kind is run part by part: the parts."""
    imports: tuple[str, ...] = ()
    """Statements that are run before it, in its names: what it uses and does not import."""
    examples_of: str = ""
    """The file whose docstrings have the examples: each docstring's are run in a copy of its module's names."""
    remarks: tuple[str, ...] = ()
    """What people are told about how it was read: what was left out of it."""
    user_root: str | None = None
    """The folder whose files count as the user's code."""
    packages: NamedPackages = NO_PACKAGES
    """Those of which the user says whether they are their own."""
    is_edited: bool = False
    """Its source is not what the target has: see :mod:`gradscope.targets.edited`."""
    tree: ast.Module | None = None
    """Of an edited one, where it is not its source that is compiled: what is, with positions in the source."""

    @property
    def text_differs_from_file(self) -> bool:
        """Whether the source that is run cannot be read from ``filename``."""
        return self.kind.differs_from_file or self.is_edited

    def parsed(self) -> ast.Module:
        """The syntax tree that is compiled, which the caller may change."""
        return ast.parse(self.source, self.filename) if self.tree is None else deepcopy(self.tree)

    def is_user(self, filename: str) -> bool:
        """Whether code of this file is the user's: the target, what lies beside it and in its project, not what is
        installed, unless the user says so."""
        return filename == self.filename or (
            self.user_root is not None and is_own(filename, self.user_root, self.packages)
        )

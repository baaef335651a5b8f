"""What a column of a recording may hold: the marks that its declaration in :mod:`gradscope.recording.rows` carries.

A row's class says of each field ``Annotated[int, MARK]``, and the string under it says what it means. The tables, what
is checked of a file, its SQL and its description all come from there.
"""

# Types are evaluated here: a named tuple would compile each that is left as text, and every command would wait for it.

from collections.abc import Mapping
from enum import IntEnum, IntFlag
from functools import cache
from typing import NamedTuple


class Number(NamedTuple):
    """A plain number."""

    typecode: str
    """Of :mod:`array`: how wide it is."""


class Text(NamedTuple):
    """Index into the strings, or NONE."""

    typecode: str = "i"


class RowOf(NamedTuple):
    """Id of a row of another table (``files`` included)."""

    table: str
    optional: bool = False
    """NONE is allowed."""
    or_end: bool = False
    """The number of rows is allowed too: what was seen after the last op."""
    typecode: str = "i"


class OneOf(NamedTuple):
    """A member of an enumeration."""

    kinds: type[IntEnum]
    typecode: str = "B"


class AnyOf(NamedTuple):
    """Flags, added up."""

    flags: type[IntFlag]
    typecode: str = "H"


class ByKind(NamedTuple):
    """Id of a row of the table that the kind in another column names, or a plain number."""

    kind: str
    """The other column."""
    rows: Mapping[IntEnum, RowOf]
    """By the kinds for which it is an id."""
    typecode: str = "q"


Holds = Number | Text | RowOf | OneOf | AnyOf | ByKind

LATE = "late"
"""The mark of a column whose values may change after their rows were added: an op raises, a tensor dies."""


class Declaration(NamedTuple):
    """One column, as it was declared."""

    holds: Holds
    is_late: bool

    @property
    def typecode(self) -> str:
        """Of :mod:`array`."""
        return self.holds.typecode


@cache
def columns_of(row_type: type) -> dict[str, Declaration]:
    """The columns of a table by name, as the class of its rows declares them."""
    marks = {name: declared.__metadata__ for name, declared in row_type.__annotations__.items()}
    return {name: Declaration(mark[0], LATE in mark[1:]) for name, mark in marks.items()}

"""Columns on top of which a recording is built: compact in memory, rows only while they are looked at."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain
from typing import Generic, TypeVar

from gradscope.recording.column_marks import Declaration, RowOf, columns_of

RowT = TypeVar("RowT", bound="tuple[int, ...]")

_WIDTHS = "bhiq"
"""The codes of signed numbers, each holding more than the one before."""

Packing = Callable[[list[int], int, int, str], bytes]
"""Gives one column of rows in a list as the bytes of an array: takes the list, the column's position, the width of a
row, and the array's type code. Raises OverflowError where a number does not fit."""

NONE = -1
"""The id that stands for "no row" in every column that refers to another table."""


@cache
def _codes_of(row_type: type) -> tuple[tuple[str, str], ...]:
    """The codes with which the columns begin."""
    return tuple((name, _first_code(column)) for name, column in columns_of(row_type).items())


def _first_code(column: Declaration) -> str:
    is_signed = column.typecode in _WIDTHS
    when_ended = isinstance(column.holds, RowOf) and column.holds.or_end  # all are set, a few at a time
    return _WIDTHS[0] if is_signed and not when_ended else column.typecode


class Table(Generic[RowT]):
    """Equally long columns of integers. A row's id is its position.

    A column of signed numbers takes 8 bits a number until one comes that needs 16, and so on up to what it was declared
    as: most name one of a few rows or texts, or are sizes of a few bytes.

    Args:
        row_type: The NamedTuple that a row reads as; its fields declare the columns.
    """

    __slots__ = ("columns", "declared", "rewritten", "row_type")

    def __init__(self, row_type: type[RowT]) -> None:
        self.row_type = row_type
        self.declared = columns_of(row_type)
        self.columns: dict[str, array[int]] = {name: array(code) for name, code in _codes_of(row_type)}
        self.rewritten: int | None = None
        """The first row that is another than when a file was last written; None: rows were only added."""

    def append(self, row: tuple[int, ...]) -> int:
        """Append one row and return its id."""
        for name, value in zip(self.columns, row, strict=True):
            self.extend_column(name, [value])
        return len(self) - 1

    def extend(self, rows: Iterable[tuple[int, ...]]) -> None:
        """Append many rows; much cheaper a row than :meth:`append`."""
        self.extend_flat(list(chain.from_iterable(rows)))

    def extend_flat(self, values: list[int], packed: Packing | None = None) -> None:
        """Append many rows given as one list, the values of a row after those of the other.

        Args:
            values: The list.
            packed: Makes columns of it, where that is done in another language than this.
        """
        width = len(self.columns)
        for position, (name, column) in enumerate(self.columns.items()):
            if packed is not None:
                try:
                    column.frombytes(packed(values, position, width, column.typecode))
                except OverflowError:
                    pass  # it may have to be widened
                else:
                    continue
            self.extend_column(name, values[position::width])

    def extend_column(self, name: str, values: list[int]) -> None:
        """Append to one column; the others must follow.

        Raises:
            OverflowError: A value does not fit the column; nothing was added.
        """
        while True:
            try:
                self.columns[name].fromlist(values)  # a quarter of the cost of extend
            except OverflowError:
                self._widen(name)
            else:
                return

    def put(self, row: int, name: str, value: int) -> None:
        """Set one number of a row that is there.

        Raises:
            OverflowError: It does not fit the column.
        """
        while True:
            try:
                self.columns[name][row] = value
            except OverflowError:
                self._widen(name)
            else:
                return

    def _widen(self, name: str) -> None:
        """Let a column hold larger numbers; where it may not, the error that is handled goes on."""
        column = self.columns[name]
        if column.typecode == self.declared[name].typecode:
            raise
        self.columns[name] = array(_WIDTHS[_WIDTHS.index(column.typecode) + 1], column)

    def truncate(self, rows: int) -> None:
        """Take back what columns have beyond so many rows: an addition that was cut short leaves them uneven."""
        for column in self.columns.values():
            del column[rows:]

    def rewrite_from(self, row: int) -> None:
        """Rows from one on are others now than they were."""
        self.rewritten = row if self.rewritten is None else min(self.rewritten, row)

    def column(self, name: str) -> array[int]:
        """The column itself, not a copy; while rows are added another may take its place."""
        return self.columns[name]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, row_id: int) -> RowT:
        if row_id < 0:
            raise IndexError(f"no row {row_id} in {self.row_type.__name__}")
        return self.row_type._make([column[row_id] for column in self.columns.values()])  # type: ignore[attr-defined, no-any-return]

    def __iter__(self) -> Iterator[RowT]:
        return map(self.row_type._make, zip(*self.columns.values(), strict=True))  # type: ignore[attr-defined]

    @property
    def nbytes(self) -> int:
        """Bytes that the columns take in memory."""
        return sum(column.itemsize * len(column) for column in self.columns.values())

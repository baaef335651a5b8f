"""Columns: compact while the numbers are small, exact when they are not."""

import pytest

from gradscope.recording.rows import Op, Storage
from gradscope.recording.tables import Table


def test_a_column_of_sizes_becomes_wider_when_a_number_does_not_fit():
    table = Table(Storage)
    table.append((0, 7, 0, -1, 0))
    small = table.nbytes
    table.extend([(1, 2**40, 2**63, -1, 0), (2, 9, 0, -1, 1)])
    assert [row.nbytes for row in table] == [7, 2**40, 9]
    assert (small, table.nbytes) == (4 + 1 + 8 + 4 + 1, 3 * (4 + 8 + 8 + 4 + 1))
    with pytest.raises(OverflowError):
        table.append((2**31, 1, 0, -1, 0))  # an id is never so large
    with pytest.raises(OverflowError):
        table.extend_column("nbytes", [2**63])


def test_a_number_that_is_set_later_widens_its_column_too():
    table = Table(Op)
    table.append((0, 0, 0, -1, 0, 0, 1))
    table.put(0, "calls", 127)
    assert table.column("calls").typecode == "b"
    table.put(0, "calls", 300)
    assert (table[0].calls, table.column("calls").typecode) == (300, "h")
    with pytest.raises(OverflowError):
        table.put(0, "calls", 2**31)

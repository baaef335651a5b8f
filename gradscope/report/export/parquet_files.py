"""Rows as files of Parquet, a group of rows at a time. The only file that knows pyarrow."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gradscope.errors import UsageError
from gradscope.recording.file.sqlite_values import from_sqlite_text
from gradscope.report.export.exported_tables import ColumnType, ExportedTable

_ROWS_OF_A_GROUP = 131_072
"""What readers like: DuckDB works on so many at a time. They are kept in columns until they are written."""


def check_installed() -> None:
    """See whether pyarrow is there.

    Raises:
        UsageError: It is not.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError(
            "gradscope export needs pyarrow, which is not installed",
            f"{sys.executable} -m pip install pyarrow, or from a checkout of gradscope: pip install '.[parquet]'",
        )


def write_rows(path: Path, table: ExportedTable, child: str, batches: Iterable[Sequence[Sequence[object]]]) -> None:
    """Write a file.

    Args:
        path: The file; it is there only as long as nothing failed, or may be half of one.
        table: What its columns are.
        child: Of which process of a program's the rows are: the value of the first column.
        batches: The rows, with values in the order of the table's columns.

    Raises:
        OSError: It cannot be written.
        ValueError, TypeError: A value is not as its column says.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(table)
    kinds = [column.type for column in table.columns.values()]
    with pq.ParquetWriter(str(path), schema, compression="zstd") as writer:
        waiting: list[Any] = []
        for rows in batches:
            columns = [[child] * len(rows), *zip(*rows, strict=True)]
            arrays = [_array(values, kind) for values, kind in zip(columns, ["text", *kinds], strict=True)]
            waiting.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
            if sum(len(batch) for batch in waiting) >= _ROWS_OF_A_GROUP:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting.clear()
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))


def _schema(table: ExportedTable) -> Any:
    """Columns with what they mean, for those who ask the file."""
    import pyarrow as pa

    described = [("child", "text", "Of a process that the program started: which; empty: the program itself.")]
    described += [(name, column.type, column.description) for name, column in table.columns.items()]
    found = [pa.field(name, _arrow_type(kind), metadata={"description": text}) for name, kind, text in described]
    return pa.schema(found, metadata={"description": table.description})


def _arrow_type(kind: str) -> Any:
    import pyarrow as pa

    known = {"number": pa.int64(), "text": pa.string(), "truth": pa.bool_(), "texts": pa.list_(pa.string())}
    return known[kind]


def _array(values: Sequence[Any], kind: ColumnType | str) -> Any:
    import pyarrow as pa

    if kind == "truth":
        return pa.array([None if value is None else value == 1 for value in values], pa.bool_())
    if kind == "text":
        return pa.array([_valid_text(value) if isinstance(value, bytes) else value for value in values], pa.string())
    return pa.array(values, _arrow_type(kind))


def _valid_text(stored: bytes) -> str:
    """Text that is no valid Unicode, its lone surrogates spelled out: Parquet has no other."""
    return from_sqlite_text(stored).encode("utf-8", "backslashreplace").decode()

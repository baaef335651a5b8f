"""A recording can be queried by anything that reads SQLite: what a user writes in sqlite3, DuckDB or pandas."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradscope.recording import Recording
from gradscope.recording.file.relations import LATE_COLUMNS, MEANINGS
from gradscope.recording.file.schema_sql import view_name
from gradscope.recording.file.store import save
from tests.recording.samples import sample


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    save(sample(), tmp_path / "run.gradscope")
    connection = sqlite3.connect(tmp_path / "run.gradscope")
    connection.row_factory = sqlite3.Row
    yield connection
    connection.close()


def test_what_a_column_means_is_said_of_columns_that_are_there() -> None:
    tables = Recording().tables
    assert list(MEANINGS) == list(tables)
    for table, column in [*LATE_COLUMNS, *((name, column) for name in MEANINGS for column in MEANINGS[name])]:
        assert column in tables[table].columns


@pytest.mark.parametrize("table", Recording().tables)
def test_every_view_has_every_row(database: sqlite3.Connection, table: str) -> None:
    rows = database.execute(f'SELECT * FROM "{table}" ORDER BY id').fetchall()
    shown = database.execute(f"SELECT * FROM {view_name(table, Recording())} ORDER BY id").fetchall()
    assert [row["id"] for row in shown] == [row["id"] for row in rows] != []
    assert set(rows[0].keys()) <= set(shown[0].keys())


def test_a_tensor_with_all_that_is_known_of_it(database: sqlite3.Connection) -> None:
    found = dict(database.execute("SELECT * FROM tensor_view WHERE name = 'y'").fetchone())
    expected = {"op_func": "Tensor.mul", "op_line": 2, "shape": "(2,)", "dtype": "float32", "node_name": "MulBackward0"}
    assert found | expected | {"requires_grad": 1, "leaf": 0} == found


def test_an_op_with_its_place_and_modes(database: sqlite3.Connection) -> None:
    found = dict(database.execute("SELECT * FROM op_view WHERE kind = 'backward'").fetchone())
    assert found | {"func": "Tensor.backward", "file": "x.py", "line": 3, "grad": 1, "raised": 0} == found


def test_what_is_saved_for_backward_by_line(database: sqlite3.Connection) -> None:
    query = "SELECT op_line, sum(s.nbytes) FROM saved_view s JOIN node_view n ON n.id = s.node GROUP BY op_line"
    assert [tuple(row) for row in database.execute(query)] == [(2, 8)]


def test_how_the_run_ended(database: sqlite3.Connection) -> None:
    query = "SELECT json_extract(value, '$.kind') FROM meta WHERE key = 'outcome'"
    assert database.execute(query).fetchone()[0] == "ok"


def test_each_column_is_described(database: sqlite3.Connection) -> None:
    described = {(row["table_name"], row["column_name"]): row for row in database.execute("SELECT * FROM columns")}
    for name, table in Recording().tables.items():
        assert described[name, ""]["description"]
        assert all(described[name, column]["holds"] for column in table.columns)
    assert described["edges", "next"]["holds"] == "id of nodes, or -1"
    assert described["tensors", "died"]["description"].startswith("The first op at whose start it was gone")


def test_the_file_says_what_it_is(database: sqlite3.Connection) -> None:
    assert database.execute("PRAGMA application_id").fetchone()[0].to_bytes(4, "big") == b"grad"
    assert database.execute("PRAGMA journal_mode").fetchone()[0] == "delete"

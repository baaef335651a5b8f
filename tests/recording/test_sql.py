"""A recording can be queried by anything that reads SQLite: what a user writes in sqlite3, DuckDB or pandas."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gradscope.recording import Recording
from gradscope.recording.column_marks import RowOf
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


def test_a_row_of_another_table_is_one_that_there_is() -> None:
    tables = Recording().tables
    for table in tables.values():
        for declared in table.declared.values():
            if isinstance(declared.holds, RowOf):
                assert declared.holds.table in {*tables, "files"}


@pytest.mark.parametrize("table", Recording().tables)
def test_every_view_has_every_row(database: sqlite3.Connection, table: str) -> None:
    rows = database.execute(f'SELECT * FROM "{table}" ORDER BY id').fetchall()
    shown = database.execute(f"SELECT * FROM {view_name(table, Recording())} ORDER BY id").fetchall()
    assert [row["id"] for row in shown] == [row["id"] for row in rows] != []
    stored, columns = rows[0].keys(), shown[0].keys()
    assert all(column in columns or f"{column}_id" in columns for column in stored)
    assert len(set(columns)) == len(columns)


@pytest.mark.parametrize("table", sorted(set(Recording().tables) - {"layouts"}))
def test_every_view_says_where_its_rows_belong(database: sqlite3.Connection, table: str) -> None:
    shown = database.execute(f"SELECT file, line FROM {view_name(table, Recording())}").fetchall()
    assert {row["file"] for row in shown} == {"x.py"}
    assert {row["line"] for row in shown} <= {1, 2, 3}


def test_a_tensor_with_all_that_is_known_of_it(database: sqlite3.Connection) -> None:
    found = dict(database.execute("SELECT * FROM tensor_view WHERE name = 'y'").fetchone())
    expected = {"op": "Tensor.mul", "line": 2, "shape": "(2,)", "dtype": "float32", "node": "MulBackward0"}
    assert found | expected | {"requires_grad": 1, "leaf": 0} == found


def test_names_stand_in_the_place_of_ids(database: sqlite3.Connection) -> None:
    (saved,) = database.execute("SELECT * FROM saved_view").fetchall()
    assert dict(saved) == {
        "id": 0, "file": "x.py", "line": 2, "function": "<module>", "node_id": 0, "node": "MulBackward0",
        "attr": "other", "storage_id": 0, "tensor_id": 0, "tensor": "x", "nbytes": 8,
    }  # fmt: skip
    (change,) = database.execute("SELECT field, tensor, before, after FROM change_view").fetchall()
    assert tuple(change) == ("version", "y", 0, 1)


def test_what_a_change_was_about_has_its_name_too(tmp_path: Path) -> None:
    recording = sample()
    recording.changes.extend([(1, 1, 2, -1, 0), (1, 1, 4, 0, 1), (1, 1, 5, 0, 0), (1, 1, 6, -1, 0)])
    save(recording, tmp_path / "run.gradscope")
    with closing(sqlite3.connect(tmp_path / "run.gradscope")) as connection:
        found = connection.execute("SELECT field, before, after FROM change_view WHERE id > 0").fetchall()
    assert found == [
        ("grad_fn", None, "MulBackward0"), ("storage", 0, 1), ("layout", "(2,)", "(2,)"), ("grad", None, "x")
    ]  # fmt: skip


def test_an_op_with_its_place_and_modes(database: sqlite3.Connection) -> None:
    found = dict(database.execute("SELECT * FROM op_view WHERE kind = 'backward'").fetchone())
    assert found | {"func": "Tensor.backward", "file": "x.py", "line": 3, "grad": 1, "raised": 0} == found


def test_what_is_saved_for_backward_by_line(database: sqlite3.Connection) -> None:
    query = "SELECT line, sum(nbytes) FROM saved_view GROUP BY line"
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
    assert described["changes", "after"]["holds"].startswith("by field: number; GRAD_FN: id of nodes, or -1; STORAGE:")
    assert described["tensors", "died"]["description"].startswith("The first op at whose start it was gone")


def test_the_file_says_what_it_is(database: sqlite3.Connection) -> None:
    assert database.execute("PRAGMA application_id").fetchone()[0].to_bytes(4, "big") == b"grad"
    assert database.execute("PRAGMA journal_mode").fetchone()[0] == "delete"

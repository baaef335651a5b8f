"""Recordings as tables of Parquet: what is in them, what can be asked, and what is left where something fails."""

from __future__ import annotations

import importlib.util
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradscope.cli.options.help_pages import pages_by_topic
from gradscope.errors import RecordingError, UsageError
from gradscope.recording.file.store import load, save
from gradscope.report.export import parquet_files
from gradscope.report.export.exported_folder import export_recordings, runs_by_file
from gradscope.report.export.exported_tables import exported_tables
from gradscope.report.export.tables_page import tables_page
from tests.cli.command import GRADSCOPE, gradscope
from tests.processes import run
from tests.recording.samples import sample
from tests.report.test_ranks import job

SQL = re.compile(r"```sql\n(.*?)```", re.DOTALL)


def exported(folder: Path, *files: Path, with_answers: bool = False) -> list[RecordingError]:
    """Export, and give what was refused."""
    refused: list[RecordingError] = []
    export_recordings(files, folder, with_answers=with_answers, refuse=refused.append, progress=None)
    return refused


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    parquet = pytest.importorskip("pyarrow.parquet")
    found: list[dict[str, Any]] = []
    for file in sorted((folder / table).rglob("*.parquet")):
        found += parquet.ParquetFile(file).read().to_pylist()
    return found


def left(folder: Path) -> list[str]:
    """What is in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def test_every_row_of_a_recording_is_in_its_table(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    save(sample(), tmp_path / "a.gradscope")
    assert exported(tmp_path / "tables", tmp_path / "a.gradscope") == []
    kept = load(tmp_path / "a.gradscope")
    for name, table in kept.tables.items():
        found = rows(tmp_path / "tables", name)
        assert [row["id"] for row in found] == list(range(len(table)))
        assert all(set(row) == {"child", *exported_tables()[name].columns} for row in found)
    (file,) = rows(tmp_path / "tables", "files")
    assert (file["name"], file["text"], file["is_user"]) == (kept.files[0].name, kept.files[0].text, True)
    (told,) = rows(tmp_path / "tables", "runs")
    assert (told["target"], told["outcome_kind"]) == (kept.info.target, kept.info.outcome.kind)


def test_names_stand_beside_ids_and_none_is_no_number(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    save(sample(), tmp_path / "a.gradscope")
    exported(tmp_path / "tables", tmp_path / "a.gradscope")
    made = next(row for row in rows(tmp_path / "tables", "tensors") if row["name"] == "y")
    assert (made["op"], made["line"], made["shape"], made["requires_grad"]) == ("Tensor.mul", 2, "(2,)", True)
    assert all(row["inner_id"] is None and row["span_id"] is not None for row in rows(tmp_path / "tables", "ops"))


def test_text_that_is_no_unicode_is_spelled_out(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    recording = sample()
    recording.files[0].text = "x = '\udc80é'\n"
    save(recording, tmp_path / "a.gradscope")
    assert exported(tmp_path / "tables", tmp_path / "a.gradscope") == []
    assert rows(tmp_path / "tables", "files")[0]["text"] == "x = '\\udc80é'\n"


def test_many_rows_are_written_a_group_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet_files, "_ROWS_OF_A_GROUP", 5000)
    recording = sample()
    recording.uses.extend([(0, 0)] * 20_000)
    count = len(recording.uses)
    save(recording, tmp_path / "a.gradscope")
    exported(tmp_path / "tables", tmp_path / "a.gradscope")
    file = parquet.ParquetFile(next((tmp_path / "tables" / "uses").rglob("*.parquet")))
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (count, 3)


def test_the_queries_of_the_page_are_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb")
    job(tmp_path, (2, False), (2, True))
    done = gradscope("export", "run.rank0.gradscope", "run.rank1.gradscope", "-f", "parquet", "tables", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "gradscope: 2 recordings in tables\n")
    monkeypatch.chdir(tmp_path)
    most_saved, some_ranks = SQL.findall(pages_by_topic()["export"].read_text(encoding="utf-8"))
    assert duckdb.sql(most_saved).fetchall()[0][:3] == ("snippet.py", 6, 1)
    assert duckdb.sql(some_ranks).fetchall() == [("run", "v", 2, 1)]


def test_answers_are_a_table_where_they_are_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    job(tmp_path, (1, True))
    exported(tmp_path / "tables", tmp_path / "run.rank0.gradscope", with_answers=True)
    assert "leaf-unreached" in {row["code"] for row in rows(tmp_path / "tables", "answers")}
    exported(tmp_path / "without", tmp_path / "run.rank0.gradscope")
    assert "answers" not in left(tmp_path / "without")


def test_a_damaged_recording_among_many_is_said_and_left_out(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    job(tmp_path, (1, False), (1, False), (1, False))
    damaged = tmp_path / "run.rank1.gradscope"
    damaged.write_bytes(damaged.read_bytes()[:20_000])
    done = gradscope("export", ".", "tables", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("run.rank1.gradscope is cut short") == 1
    assert done.stderr.endswith("gradscope: 2 of 3 recordings are in tables\n")
    ranks = {path.parent.name for path in (tmp_path / "tables").rglob("*.parquet")}
    assert ranks == {"rank=0", "rank=2"}


def test_what_is_found_to_be_damaged_late_leaves_nothing(tmp_path: Path) -> None:
    sqlite3 = pytest.importorskip("sqlite3")
    pytest.importorskip("pyarrow")
    job(tmp_path, (1, False), (1, False))
    connection = sqlite3.connect(tmp_path / "run.rank1.gradscope")
    with connection:
        connection.execute("UPDATE bindings SET op = 'none' WHERE id = 1")
    connection.close()
    (error,) = exported(tmp_path / "tables", *sorted(tmp_path.glob("*.gradscope")))
    assert "run.rank1.gradscope is damaged" in str(error)
    assert {path.parent.name for path in (tmp_path / "tables").rglob("*.parquet")} == {"rank=0"}


def test_where_none_can_be_read_there_is_no_folder(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "a.gradscope").write_text("no recording")
    done = gradscope("export", "a.gradscope", "tables", cwd=tmp_path)
    assert done.returncode == 2
    assert "nothing was exported" in done.stderr
    assert left(tmp_path) == ["a.gradscope"]


def test_a_target_that_cannot_be_is_refused_before_the_work(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    job(tmp_path, (1, False))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    (tmp_path / "file").write_text("kept")
    for target, said in (("full", "not empty"), ("file", "it is no folder"), ("no/where", "there is no folder no")):
        done = gradscope("export", "run.rank0.gradscope", target, cwd=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr.splitlines()[0]
    assert left(tmp_path / "full") == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert gradscope("export", "run.rank0.gradscope", "empty", cwd=tmp_path).returncode == 0
    assert "ops" in left(tmp_path / "empty")


def test_on_a_full_disk_nothing_is_left(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    job(tmp_path, (1, False))
    done = run(
        [GRADSCOPE, "export", "run.rank0.gradscope", "tables"],
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500)),
    )
    assert done.returncode == 2
    first, hint = done.stderr.splitlines()
    assert first.startswith("gradscope: cannot export to tables: ")
    assert "make room on the disk" in hint
    assert left(tmp_path) == ["run.rank0.gradscope"]


def test_without_pyarrow_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs pyarrow, which is not installed") as raised:
        parquet_files.check_installed()
    assert "pip install pyarrow" in raised.value.hint


def test_it_needs_no_torch(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    save(sample(), tmp_path / "a.gradscope")
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv[1:] = ['export', 'a.gradscope', 'tables', '--answers'];"
        "from gradscope.__main__ import main; sys.exit(main())"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert "ops" in left(tmp_path / "tables")


def test_a_run_is_called_by_its_file_without_the_process(tmp_path: Path) -> None:
    one = [tmp_path / f"train.rank{rank}.gradscope" for rank in (0, 12)]
    child = tmp_path / "train.rank0.child1.2.gradscope"
    assert set(runs_by_file([*one, child]).values()) == {"train"}
    assert runs_by_file([tmp_path / "lr 0.1.gradscope"]).popitem()[1] == "lr_0.1"
    several = [tmp_path / "a" / "x" / "train.gradscope", tmp_path / "b" / "train.gradscope"]
    assert list(runs_by_file(several).values()) == ["a-x-train", "b-train"]


def test_two_recordings_never_have_one_place(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for name in ("train.gradscope", "train.rank0.gradscope"):
        save(sample(), tmp_path / name)
    assert exported(tmp_path / "tables", *sorted(tmp_path.glob("*.gradscope"))) == []
    assert left(tmp_path / "tables" / "ops") == ["run=train", "run=train.2"]


def test_the_page_says_what_the_columns_are() -> None:
    kept = pages_by_topic()["tables"].read_text(encoding="utf-8")
    assert kept == tables_page(), "gradscope schema parquet > gradscope/docs/tables.md"
    for table in exported_tables().values():
        assert table.description

"""What is saved is what is loaded, to the last bit, at once or piece by piece."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradscope.recording import Recording
from gradscope.recording.file.store import RecordingWriter, load, save
from tests.recording.arbitrary import contents, recordings

few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(recordings())
@few
def test_saved_and_loaded_it_is_the_same(tmp_path: Path, recording: Recording) -> None:
    path = tmp_path / "run.gradscope"
    save(recording, path)
    assert contents(load(path)) == contents(recording)


def test_addresses_are_unsigned(tmp_path: Path) -> None:
    recording = Recording()
    addresses = [0, 1, 2**63 - 1, 2**63, 2**64 - 1]
    for address in addresses:
        recording.storages.append((0, 0, address, -1, 0))
    save(recording, tmp_path / "run.gradscope")
    assert list(load(tmp_path / "run.gradscope").storages.column("data_ptr")) == addresses
    with sqlite3.connect(tmp_path / "run.gradscope") as connection:
        shown = [int(text, 16) for (text,) in connection.execute("SELECT data_ptr FROM storage_view ORDER BY id")]
    assert shown == addresses


def test_a_fact_of_the_run_that_is_no_longer_kept_is_passed_over(tmp_path: Path) -> None:
    recording = Recording()
    recording.info.target = "train.py"
    save(recording, tmp_path / "run.gradscope")
    with sqlite3.connect(tmp_path / "run.gradscope") as connection:
        connection.execute("INSERT INTO meta (key, value) VALUES ('extra', '{\"devices\": [1, Infinity]}')")
    assert load(tmp_path / "run.gradscope").info == recording.info


@given(recordings(most_rows=12), st.data())
@few
def test_written_in_batches_it_is_the_same(tmp_path: Path, recording: Recording, data: st.DataObject) -> None:
    """Rows come a few at a time, and columns that change late have another value until the end."""
    writer = RecordingWriter(tmp_path / "run.gradscope")
    growing = Recording()
    growing.__dict__.update({"files": list(recording.files), "strings": list(recording.strings)})
    late = {
        (name, column): table.column(column)
        for name, table in recording.tables.items()
        for column, declared in table.declared.items()
        if declared.is_late
    }
    of_modules = {("modules", column) for column in ("parent", "name", "span")}
    assert set(late) == {("ops", "flags"), ("ops", "calls"), ("tensors", "died"), ("storages", "died")} | of_modules
    for _ in range(data.draw(st.integers(1, 4))):
        for name, table in growing.tables.items():
            upto = data.draw(st.integers(len(table), len(recording.tables[name])))
            for at in range(len(table), upto):
                table.append(recording.tables[name][at])
        for (name, column), final in late.items():
            changed = growing.tables[name].column(column)
            for at in range(len(changed)):
                changed[at] = data.draw(st.sampled_from([0, final[at]]))
        writer.append(growing)
    writer.close(recording)
    assert contents(load(writer.path)) == contents(recording)


def test_rows_far_back_are_brought_up_to_date(tmp_path: Path) -> None:
    """More rows than one stretch, so that what is looked through now and then is looked through in the end."""
    writer, recording = RecordingWriter(tmp_path / "run.gradscope"), Recording()
    recording.layouts.append((0, 0, 0, 0, 0, 0, 0))
    for batch in range(12):
        recording.tensors.extend((0, -1, 0, -1, 0, -1) for _ in range(1000))
        recording.ops.extend((0, 0, -1, -1, 0, 0, 1) for _ in range(1000))
        recording.tensors.column("died")[batch] = batch
        writer.append(recording)
    recording.tensors.column("died")[5] = 7
    recording.ops.column("calls")[11_999] = 3
    writer.close(recording)
    assert contents(load(writer.path)) == contents(recording)


def test_one_file_is_left(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "run.gradscope")
    writer.append(Recording())
    writer.close(Recording())
    save(Recording(), tmp_path / "other.gradscope")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.gradscope", "run.gradscope"]


@pytest.mark.parametrize("name", ["a b.gradscope", "ä%3f?mode=rw#.gradscope", "x" * 240, "no suffix"])
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    save(Recording(), tmp_path / name)
    assert load(tmp_path / name).strings == [""]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.gradscope").symlink_to(tmp_path / "real.gradscope")
    save(Recording(), tmp_path / "link.gradscope")
    assert (tmp_path / "link.gradscope").is_symlink()
    assert load(tmp_path / "real.gradscope").strings == [""]

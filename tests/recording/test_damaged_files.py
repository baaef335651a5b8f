"""Whatever is wrong with a file: one clear line, never a traceback, and nothing in it is executed."""

import os
import random
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gradscope.analysis.report_builder import build
from gradscope.errors import ExitCode, RecordingError
from gradscope.recording import Recording
from gradscope.recording.file.store import load, save
from gradscope.recording.model import SCHEMA_VERSION
from tests.recording.samples import sample


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(sample(), tmp_path / "run.gradscope")
    return tmp_path / "run.gradscope"


def refusal(path: Path) -> RecordingError:
    """The error that a file gives, checked for its form."""
    with pytest.raises(RecordingError) as caught:
        load(path)
    error = caught.value
    assert str(path) in error.message
    assert "\n" not in error.message
    assert error.exit_code == ExitCode.USAGE
    return error


def alter(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_the_sample_is_sound(path: Path) -> None:
    assert build(load(path)).summary.ops == len(sample().ops) + 3  # (one stands for three more)


def test_no_file(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "none.gradscope").message


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path).message


def test_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in refusal(tmp_path / "pipe").message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"import torch\n", "is not a gradscope recording"),
        (b"\x80\x04\x95cos\nsystem\n", "is not a gradscope recording"),
        (b"SQLite format 3\0", "is cut short"),
        (b"SQLite", "is cut short"),
    ],
)
def test_other_content(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.gradscope").write_bytes(content)
    assert words in refusal(tmp_path / "x.gradscope").message


def test_a_script_is_to_be_run(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("import torch")
    assert "gradscope run" in refusal(tmp_path / "x.py").hint


def test_a_database_of_somebody_else(tmp_path: Path) -> None:
    alter(tmp_path / "x.gradscope", "CREATE TABLE ops (id)")
    assert "not a gradscope recording" in refusal(tmp_path / "x.gradscope").message


def test_a_newer_version(path: Path) -> None:
    alter(
        path, f"PRAGMA user_version = {SCHEMA_VERSION + 6}", "UPDATE meta SET value = '\"9.9\"' WHERE key = 'gradscope'"
    )
    error = refusal(path)
    assert "newer gradscope 9.9" in error.message
    assert str(SCHEMA_VERSION + 6) in error.message and f"up to {SCHEMA_VERSION}" in error.message
    assert "upgrade" in error.hint


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE nodes",
        "ALTER TABLE saved RENAME COLUMN attr TO what",
        "DELETE FROM ops WHERE id = 1",
        "DELETE FROM strings WHERE id = 1",
        "DELETE FROM strings",
        "UPDATE uses SET tensor = 10000",
        "UPDATE uses SET tensor = -1",
        "UPDATE ops SET func = 10000",
        "UPDATE ops SET kind = 200",
        "UPDATE ops SET kind = 100000",
        "UPDATE tensors SET flags = 65000",
        "UPDATE spans SET file = 4",
        "UPDATE edges SET next = 0",
        "UPDATE storages SET nbytes = 0x7fffffffffffffff",
        "UPDATE tensors SET op = 3",
        "UPDATE layouts SET nbytes = 'many'",
        "UPDATE layouts SET nbytes = 1.5",
        "UPDATE layouts SET nbytes = x'00'",
        "UPDATE strings SET text = 12",
        "UPDATE strings SET text = x'ff00'",
        "UPDATE strings SET text = CAST(x'ff0a0a1b' AS TEXT)",
        "UPDATE files SET text = CAST(x'610a620aff' AS TEXT)",
        "UPDATE files SET text = NULL",
        "UPDATE meta SET value = '{' WHERE key = 'outcome'",
        "UPDATE meta SET value = '3' WHERE key = 'outcome'",
        "UPDATE meta SET value = '[1]' WHERE key = 'argv'",
        "UPDATE meta SET value = 'true' WHERE key = 'duration_ns'",
        "UPDATE meta SET value = '\"x\"' WHERE key = 'format'",
        "DELETE FROM meta WHERE key = 'format'",
        f"UPDATE meta SET value = '{'[' * 100_000}' WHERE key = 'argv'",
    ],
)
def test_wrong_content(path: Path, damage: str) -> None:
    alter(path, damage)
    assert "is damaged" in refusal(path).message


def test_tables_must_be_tables(path: Path) -> None:
    """A view in the place of a table could compute for ever."""
    alter(
        path,
        "DROP TABLE errors",
        "CREATE VIEW errors AS WITH RECURSIVE c(id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM c)"
        " SELECT id, 0 AS op, 0 AS type_name, 0 AS message FROM c",
    )
    assert "is damaged" in refusal(path).message


def test_triggers_are_no_matter(path: Path) -> None:
    alter(path, "CREATE TRIGGER t AFTER INSERT ON ops BEGIN DELETE FROM ops; END")
    assert len(load(path).ops) == len(sample().ops)


def test_loading_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    load(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def _opens_or_refuses(path: Path) -> bool:
    try:
        recording = load(path)
    except RecordingError as error:
        assert "\n" not in error.message
        return False
    build(recording)
    return True


def test_cut_off_anywhere(path: Path) -> None:
    whole = path.read_bytes()
    lengths = {0, 1, 15, 16, 17, 99, 100, 101, 4095, 4096, 4097, len(whole) - 1}
    lengths.update(random.Random(1).sample(range(len(whole)), 150))
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        assert not _opens_or_refuses(path), f"cut to {length} bytes it was loaded"


def _flips() -> list[tuple[str, Callable[[random.Random, bytearray], None]]]:
    def one(rng: random.Random, content: bytearray) -> None:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)

    def header(rng: random.Random, content: bytearray) -> None:
        content[rng.randrange(100)] = rng.randrange(256)

    def page(rng: random.Random, content: bytearray) -> None:
        start = rng.randrange(len(content) // 4096) * 4096
        content[start : start + 4096] = rng.randbytes(4096)

    def zeros(rng: random.Random, content: bytearray) -> None:
        start = rng.randrange(len(content) - 64)
        content[start : start + 64] = bytes(64)

    return [("one bit", one), ("the header", header), ("a page", page), ("zeros", zeros)]


@pytest.mark.parametrize(("what", "damage"), _flips())
def test_bytes_changed_anywhere(path: Path, what: str, damage: Callable[[random.Random, bytearray], None]) -> None:
    whole, rng = path.read_bytes(), random.Random(what)
    refused = 0
    for _ in range(150):
        content = bytearray(whole)
        damage(rng, content)
        path.write_bytes(content)
        refused += not _opens_or_refuses(path)
    assert refused


def test_an_empty_recording_has_a_report(tmp_path: Path) -> None:
    save(Recording(), tmp_path / "run.gradscope")
    assert build(load(tmp_path / "run.gradscope")).lines == ()


def test_nothing_here_can_unpickle() -> None:
    import gradscope.recording.file.reader as reader

    assert not {"pickle", "marshal", "shelve"} & set(vars(reader))
    assert "sqlite3" in sys.modules


def test_modules_that_are_parts_of_each_other(path: Path) -> None:
    alter(path, "UPDATE modules SET parent = 0")
    assert "parts of each other" in refusal(path).message

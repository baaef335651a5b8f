"""A recording is written while the program runs: what survives a kill, a fork, a full disk, a folder taken away."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from gradscope.errors import RecordingError
from gradscope.recording import Recording
from gradscope.recording.file.store import RecordingWriter, load, save
from tests.processes import run as run_command
from tests.processes import started
from tests.recording.arbitrary import contents
from tests.recording.nobody import as_nobody_sees
from tests.recording.samples import sample

WRITING = """
    import sys
    from gradscope.recording import Recording
    from gradscope.recording.file.store import RecordingWriter
    recording, writer = Recording(), RecordingWriter(sys.argv[1])
    recording.layouts.append((0, 0, 0, 0, 0, 0, 0))
    while True:
        start = len(recording.ops)
        recording.ops.extend((0, 0, -1, -1, 0, 0, 1) for _ in range(3000))
        recording.tensors.extend((row, -1, 0, -1, 0, -1) for row in range(start, start + 3000))
        for row in range(max(0, start - 100), start):
            recording.tensors.column("died")[row] = start
        recording.strings.append(f"text {start}")
        writer.append(recording)
        print(len(recording.ops), flush=True)
"""


def python(code: str, *arguments: object, **options: object) -> AbstractContextManager[subprocess.Popen[str]]:
    """A program of its own."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("delay", [0, 0.003, 0.008, 0.015, 0.03])
def test_killed_it_opens_with_what_was_written(tmp_path: Path, delay: float) -> None:
    path = tmp_path / "run.gradscope"
    with python(WRITING, path) as process:
        assert process.stdout is not None
        for _ in range(3):
            said = int(process.stdout.readline())
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
    said = max([said, *map(int, rest.split())])
    recording = load(path)
    assert process.returncode == -signal.SIGKILL
    assert recording.info.outcome.kind == "running"
    assert len(recording.ops) in (said, said + 3000)
    assert len(recording.tensors) == len(recording.ops)
    assert recording.tensors.column("died")[len(recording.ops) - 3001] == len(recording.ops) - 3000
    assert recording.strings[-1] == f"text {len(recording.ops) - 3000}"


def test_killed_and_moved_where_nothing_can_be_written(tmp_path: Path) -> None:
    """The file alone, in a folder that cannot be written, as from an archive; root may write anywhere, so as nobody."""
    path = tmp_path / "run.gradscope"
    writer = RecordingWriter(path)
    writer.append(sample())
    with as_nobody_sees(path.read_bytes(), "killed.gradscope") as (folder, run):
        loaded = run(f"print(len(gradscope.load('{folder}/killed.gradscope').ops))")
    assert loaded == str(len(sample().ops))


def test_before_the_first_batch_it_opens(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "run.gradscope")
    expected = Recording()
    expected.info.process = os.getpid()
    assert contents(load(writer.path)) == contents(expected)


def test_it_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    with python(WRITING, tmp_path / "run.gradscope") as process:
        assert process.stdout is not None
        for _ in range(8):
            said = int(process.stdout.readline())
            assert len(load(tmp_path / "run.gradscope").ops) >= said
        process.kill()
        process.communicate()


def test_an_older_recording_of_a_killed_program_does_not_leak_in(tmp_path: Path) -> None:
    """SQLite would take what was left beside the old file for the new one's."""
    path = tmp_path / "run.gradscope"
    for write in (lambda: save(sample(), path), lambda: RecordingWriter(path).close(sample())):
        for companion in ("-wal", "-shm", "-journal"):
            path.with_name(path.name + companion).write_bytes(b"of another database")
        write()
        assert contents(load(path)) == contents(sample())
        assert list(tmp_path.iterdir()) == [path]


def test_a_second_run_takes_another_name_while_the_first_is_under_way(tmp_path: Path) -> None:
    path = tmp_path / "run.gradscope"
    code = WRITING.replace("while True:", "recording.info.process = __import__('os').getpid()\n    while True:")
    with python(code, path) as first:
        assert first.stdout is not None
        first.stdout.readline()
        writer = RecordingWriter(path)
        writer.close(sample())
        first.kill()
        first.communicate()
    assert writer.path == tmp_path / "run.2.gradscope"
    assert contents(load(writer.path)) == contents(sample())
    assert len(load(path).ops) >= 3000
    assert RecordingWriter(path).path == path  # it is under way no more


def test_a_run_whose_file_is_replaced_writes_all_to_another(tmp_path: Path) -> None:
    """Both began at the same moment, so neither saw the other's file."""
    path, recording = tmp_path / "run.gradscope", sample()
    writer = RecordingWriter(path)
    writer.append(recording)
    save(Recording(), path)
    recording.ops.append((1, 0, -1, -1, 0, 0, 1))
    writer.append(recording)
    writer.close(recording)
    assert writer.path == tmp_path / "run.2.gradscope"
    assert contents(load(writer.path)) == contents(recording)
    assert contents(load(path)) == contents(Recording())


def test_a_forked_child_writes_nothing(tmp_path: Path) -> None:
    code = """
        import os, sys
        from gradscope.recording import Recording
        from gradscope.recording.file.store import RecordingWriter
        recording, writer = Recording(), RecordingWriter(sys.argv[1])
        recording.ops.append((0, 0, -1, -1, 0, 0, 1))
        writer.append(recording)
        if os.fork() == 0:
            recording.ops.append((0, 0, -1, -1, 0, 0, 1))
            writer.append(recording)
            writer.close(recording)
            sys.exit()
        os.wait()
        os.chdir("/")
        os.closerange(3, 50)
        recording.info.outcome.kind = "ok"
        writer.close(recording)
    """
    with python(code, "run.gradscope", cwd=tmp_path) as process:
        assert process.communicate() == ("", "")
    recording = load(tmp_path / "run.gradscope")
    assert (len(recording.ops), recording.info.outcome.kind) == (1, "ok")


FULL = """
    import json, resource, sys
    from gradscope.errors import RecordingError
    from gradscope.recording.file.store import RecordingWriter, load, save
    from tests.recording.samples import sample
    path, recording, said = sys.argv[1], sample(), []
    writer = RecordingWriter(path) if sys.argv[2] == "appended" else None
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    recording.ops.extend((0, 0, -1, -1, 0, 0, 1) for _ in range(50_000))
    for _ in range(2):
        try:
            writer.append(recording) if writer else save(recording, path)
        except RecordingError as error:
            said.append([error.message, error.hint])
    print(json.dumps([said, len(load(path).ops)]))
"""


@pytest.mark.parametrize("how", ["saved", "appended"])
def test_on_a_full_disk_what_was_there_stays(tmp_path: Path, how: str) -> None:
    """A limit on the size of files stands for a full disk; nothing of a failed write is left."""
    path = tmp_path / "run.gradscope"
    save(sample(), path)
    with python(FULL, path, how) as process:
        out, errors = process.communicate()
    assert errors == ""
    said, ops = json.loads(out)
    assert len(said) == 2
    assert all(message.startswith(f"cannot write the recording {path}") and "room" in hint for message, hint in said)
    assert ops == (0 if how == "appended" else len(sample().ops))
    assert not [left for left in tmp_path.iterdir() if left.name.endswith((".new", "-journal"))]


def _fails(*_: object, **__: object) -> None:
    raise sqlite3.OperationalError("disk I/O error")


def test_where_the_end_cannot_be_written_nothing_is_left_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = RecordingWriter(tmp_path / "run.gradscope")
    writer.append(sample())
    monkeypatch.setattr("gradscope.recording.file.written_rows.WrittenRows.write", _fails)
    with pytest.raises(RecordingError, match="disk I/O error"):
        writer.close(sample())
    assert contents(load(writer.path)) == contents(sample())
    with pytest.raises(RecordingError, match="disk I/O error"):
        RecordingWriter(tmp_path / "other.gradscope")
    assert list(tmp_path.iterdir()) == [writer.path]


def test_rows_that_cannot_be_merged_are_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk on which SQLite cannot make the file by which it finds its way in the other."""
    path = RecordingWriter(tmp_path / "run.gradscope").path
    path.with_name("run.gradscope-wal").write_bytes(b"rows")
    monkeypatch.setattr("gradscope.recording.file.file_checks._distrust", _fails)
    with pytest.raises(RecordingError, match="its last rows are in run") as caught:
        load(path)
    assert "make room" in caught.value.hint


def test_after_a_failed_append_the_next_one_writes_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, recording = RecordingWriter(tmp_path / "run.gradscope"), sample()
    writer.append(recording)
    recording.tensors.column("died")[0] = 2
    recording.ops.append((1, 0, -1, -1, 0, 0, 1))
    with monkeypatch.context() as patched:
        patched.setattr("gradscope.recording.file.written_rows.json.dumps", lambda value: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            writer.append(recording)
    writer.path.rename(tmp_path / "away")
    with pytest.raises(RecordingError, match="cannot write the recording"):
        writer.append(recording)
    (tmp_path / "away").rename(writer.path)
    writer.close(recording)
    assert contents(load(writer.path)) == contents(recording)


@pytest.mark.parametrize("write", [lambda path: save(Recording(), path), RecordingWriter])
def test_where_no_file_can_be(tmp_path: Path, write: object) -> None:
    assert callable(write)
    for path, words in ((tmp_path, "a folder"), (tmp_path / "none" / "x", "no folder"), (Path("/dev/null"), "device")):
        with pytest.raises(RecordingError, match=words) as caught:
            write(path)
        assert caught.value.hint


def test_a_folder_that_cannot_be_written() -> None:
    with as_nobody_sees(b"", "x") as (folder, run):
        said = run(
            f"""
            try:
                gradscope.save(gradscope.Recording(), "{folder}/run.gradscope")
            except gradscope.GradscopeError as error:
                print(error.message, "|", error.hint)
            """
        )
    assert "Permission denied" in said and "may write to" in said


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    save(sample(), tmp_path / "run.gradscope")
    with as_nobody_sees((tmp_path / "run.gradscope").read_bytes(), "secret.gradscope", mode=0o000) as (folder, run):
        said = run(
            f"""
            try:
                gradscope.load("{folder}/secret.gradscope")
            except gradscope.GradscopeError as error:
                print(error.message)
            """
        )
    assert said == f"cannot read {folder}/secret.gradscope: Permission denied"


def test_a_program_that_is_killed_early_leaves_what_it_was(tmp_path: Path) -> None:
    source = "import os, torch\nfor _ in range(100):\n    x = torch.ones(1)\nos.kill(os.getpid(), 9)\n"
    (tmp_path / "train.py").write_text(source)
    command = [sys.executable, "-m", "gradscope", "run", "-o", "run.gradscope", "train.py"]
    done = run_command(command, cwd=tmp_path)
    recording = load(tmp_path / "run.gradscope")
    assert done.returncode == -signal.SIGKILL
    assert (recording.info.target, recording.info.outcome.kind) == ("train.py", "running")
    assert len(recording.ops) >= 64

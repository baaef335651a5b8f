"""Many recordings as one folder of tables, partitioned by run and rank: ``ops/run=train/rank=0/part.parquet``.

The folder appears whole or not at all. Of a recording that cannot be read nothing is in it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from gradscope.analysis.report_builder import build
from gradscope.errors import GradscopeError, RecordingError, UsageError
from gradscope.recording.file.row_stream import RowStream, row_stream
from gradscope.recording.file.store import load
from gradscope.recording.file.write_errors import explanation
from gradscope.recording.model import RunInfo
from gradscope.recording.tables import NONE
from gradscope.report.export.exported_tables import ANSWERS, RUNS, exported_tables
from gradscope.report.export.parquet_files import write_rows

_AT_ONCE = 4096
"""Rows that are read together."""
_PROCESS = re.compile(r"\.(rank\d+|child[\d.]+\d)(?=\.|$)")
"""What the name of a file says of the process, and the name of the run does not."""


def check_folder(folder: Path) -> None:
    """See before the work is done whether there can be such a folder.

    Raises:
        UsageError: It cannot be made, or has something in it.
    """
    target = Path(os.path.realpath(folder))
    if target.exists() and not target.is_dir():
        raise UsageError(f"cannot export to {folder}: it is no folder", "name a new folder")
    if not target.parent.is_dir():
        raise UsageError(f"cannot export to {folder}: there is no folder {folder.parent}", "create it first")
    if not os.access(target.parent, os.W_OK):
        raise UsageError(f"cannot export to {folder}: no permission", "write to a folder that you may write to")
    if target.exists() and any(target.iterdir()):
        raise UsageError(f"cannot export to {folder}: it is there already, and not empty", "name a new folder")


def export_recordings(
    recordings: Sequence[Path],
    folder: Path,
    *,
    with_answers: bool,
    refuse: Callable[[RecordingError], None],
    progress: Callable[[int, int], None] | None,
) -> int:
    """Write the tables of all recordings, one after the other; none is ever held whole, but to find its answers.

    Args:
        recordings: The files.
        folder: Where the tables go; see :func:`check_folder`.
        with_answers: Analyse each as well.
        refuse: Takes what is wrong with a recording that cannot be read; the others are exported.
        progress: Takes the number done and the number of all.

    Returns:
        How many were exported; where it is none, there is no folder.

    Raises:
        GradscopeError: The folder cannot be written.
    """
    with _explained(folder), _new_folder(folder) as new:
        exported = _ExportedFolder(new, runs_by_file(recordings), with_answers)
        for done, recording in enumerate(recordings):
            if progress is not None:
                progress(done, len(recordings))
            try:
                exported.add(recording)
            except RecordingError as error:
                refuse(error)
        if exported.count:
            exported.finish()
            new.replace(Path(os.path.realpath(folder)))
    return exported.count


def runs_by_file(recordings: Sequence[Path]) -> dict[Path, str]:
    """The name of the run of each file: ``train`` of ``train.rank0.gradscope``.

    Where files of several folders would have the same one, the folders are part of it.
    """
    names = {file: _PROCESS.sub("", file.stem) for file in recordings}
    places: dict[str, set[Path]] = {}
    for file, name in names.items():
        places.setdefault(name, set()).add(file.absolute().parent)
    if all(len(folders) == 1 for folders in places.values()):
        return {file: _as_value(name) for file, name in names.items()}
    shared = Path(os.path.commonpath([folder for folders in places.values() for folder in folders]))
    below = {file: file.absolute().parent.relative_to(shared).parts for file in recordings}
    return {file: _as_value("-".join((*below[file], name))) for file, name in names.items()}


def _as_value(name: str) -> str:
    """As the name of a folder can have it, whatever reads that."""
    return re.sub(r"[^\w.-]", "_", name)


class _ExportedFolder:
    """Takes recordings one after the other.

    Args:
        folder: Where the tables go.
        runs: The name of the run of each file.
        with_answers: Analyse each as well.
    """

    def __init__(self, folder: Path, runs: dict[Path, str], with_answers: bool) -> None:
        self._folder = folder
        self._runs = runs
        self._with_answers = with_answers
        self._processes: set[tuple[str, int, str]] = set()
        self._partition = ("", 0)
        """That of the last recording."""
        self.count = 0
        """Recordings that are in it."""

    def add(self, file: Path) -> None:
        """Write the rows of one.

        Raises:
            RecordingError: It cannot be read; nothing of it is there.
        """
        written: list[Path] = []
        try:
            with row_stream(file) as stream:
                process = self._process_of(file, stream.info)
                for table in exported_tables():
                    batches = self._batches(table, file, stream)
                    first = next(batches, None)
                    if first is not None:
                        written.append(self._path(table, process))
                        write_rows(written[-1], exported_tables()[table], process[2], chain([first], batches))
        except RecordingError:
            for path in written:
                path.unlink(missing_ok=True)
            raise
        self._processes.add(process)
        self._partition = process[:2]
        self.count += 1

    def finish(self) -> None:
        """Write a file without rows of each table that has none, as what reads a table asks for one."""
        for table in exported_tables():
            if not (self._folder / table).exists() and (table != ANSWERS or self._with_answers):
                write_rows(self._path(table, (*self._partition, "")), exported_tables()[table], "", ())

    def _process_of(self, file: Path, info: RunInfo) -> tuple[str, int, str]:
        """Run, rank and child, as no other recording has them."""
        name, number = self._runs[file], 1
        while (found := (name if number == 1 else f"{name}.{number}", info.rank, info.child)) in self._processes:
            number += 1
        return found

    def _batches(self, table: str, file: Path, stream: RowStream) -> Iterator[Sequence[Sequence[object]]]:
        if table == RUNS:
            yield [_run_row(file, stream.info)]
        elif table == ANSWERS:
            if self._with_answers and (found := _answer_rows(file)):
                yield found
        else:
            columns = exported_tables()[table].columns
            yield from stream.rows(table, {name: one.shown for name, one in columns.items() if one.shown}, _AT_ONCE)

    def _path(self, table: str, process: tuple[str, int, str]) -> Path:
        run, rank, child = process
        folder = self._folder / table / f"run={run}" / f"rank={rank}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / (f"child{child}.parquet" if child else "part.parquet")


def _run_row(file: Path, info: RunInfo) -> list[object]:
    told = {"recording": str(file)} | asdict(info)
    told |= {f"outcome_{name}": value for name, value in asdict(info.outcome).items()}
    return [None if told[name] == NONE else told[name] for name in exported_tables()[RUNS].columns]


def _answer_rows(file: Path) -> list[list[object]]:
    rows: list[list[object]] = []
    for answer in build(load(file)).answers:
        place = answer.causes[0] if answer.causes else answer.place
        where = (place.file, place.line, place.function, place.source) if place else (None, None, None, None)
        rows.append([answer.code, answer.severity, answer.text, answer.subject, *where, answer.advice])
    return rows


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside another, to be put in its place; what is left of it in the end is removed."""
    target = Path(os.path.realpath(folder))
    new = target.with_name(f".{target.name[:64]}.{os.urandom(4).hex()}.new")
    new.mkdir()
    try:
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GradscopeError(*explanation(f"cannot export to {folder}", folder, error)) from error

"""The recordings of several ranks, shown as one."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path

import pytest

import gradscope.cli.merged_recordings as merged_recordings_module
from gradscope.analysis.view import RunView
from gradscope.cli.options.output_options import Output
from gradscope.cli.report_ranks import report_ranks
from gradscope.recording import Recording
from gradscope.recording.file.store import load, save
from gradscope.report.ranks.ranks_screen import ranks_text
from tests.analysis.building import recorded
from tests.cli.command import gradscope

PROGRAM = """
import torch
steps, cuts = {job}
w = torch.ones(2, requires_grad=True)
v = torch.ones(2, requires_grad=True)
for step in range(steps):
    loss = (w * (v.detach() if cuts else v)).sum()
    loss.backward()
"""


def job(folder: Path, *jobs: tuple[int, bool], world_size: int = 0) -> None:
    for rank, done in enumerate(jobs):
        recording = recorded(PROGRAM.format(job=done))
        info = recording.info
        info.target, info.rank, info.world_size = "train.py", rank, world_size or len(jobs)
        info.started_at = f"2026-01-01T00:00:0{rank}.000+00:00"
        save(recording, folder / f"run.rank{rank}.gradscope")


def report(folder: Path, *options: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(gradscope("report", "-f", "json", *options, str(folder), cwd=folder).stdout)
    return found


def test_what_differs_is_named_by_rank_and_line(tmp_path: Path) -> None:
    job(tmp_path, (2, False), (2, False), (3, True), world_size=4)
    merged = report(tmp_path)
    assert merged["missing"] == [3]
    assert [row["rank"] for row in merged["ranks"]] == [0, 1, 2]
    found = {
        (one["section"], one["place"]["line"], one["subject"]): {tuple(v["ranks"]): v["text"] for v in one["values"]}
        for one in merged["differences"]
    }
    assert found["gradients", 7, "v"] == {(0, 1): "gradient", (2,): "none"}
    assert found["lines", 7, ""] == {(0, 1): "ran 2 times", (2,): "ran 3 times"}
    assert found["cuts", 6, "detach"] == {(0, 1): "not there", (2,): "cut"}
    assert ("gradients", 7, "w") not in found
    screen = gradscope("report", "--width", "100", str(tmp_path), cwd=tmp_path).stdout
    assert "no recording of rank 3 of 4" in screen
    assert "rank 2: " in screen
    assert "ranks 0, 1: gradient; rank 2: none" in screen


def test_processes_that_the_program_started_as_ranks_are_the_ranks(tmp_path: Path) -> None:
    job(tmp_path, (2, False), (2, False), (3, False))
    for number, (rank, world_size, child) in enumerate([(0, 1, ""), (0, 2, "1"), (1, 2, "2")]):
        recording = load(tmp_path / f"run.rank{number}.gradscope")
        recording.info.rank, recording.info.world_size, recording.info.child = rank, world_size, child
        save(recording, tmp_path / f"run.rank{number}.gradscope")
    merged = report(tmp_path)
    assert [(row["rank"], row["name"]) for row in merged["ranks"]] == [(0, "rank 0"), (1, "rank 1")]
    assert {tuple(one["ranks"]) for row in merged["differences"] for one in row["values"]} == {(0,), (1,)}
    started = load(tmp_path / "run.rank2.gradscope")
    started.info.rank = 0  # of another job, or a job that was started twice
    save(started, tmp_path / "run.rank2.gradscope")
    assert [row["name"] for row in report(tmp_path)["ranks"]] == ["program", "rank 0, child 1", "rank 0, child 2"]


def test_what_all_have_is_no_difference(tmp_path: Path) -> None:
    job(tmp_path, (2, False), (2, False))
    assert report(tmp_path)["differences"] == []
    assert "is the same for all" in gradscope("report", "--width", "100", str(tmp_path), cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("ranks", "text"), [([1], "rank 1"), ([0, 2], "ranks 0, 2"), ([5, 0, 2, 3, 4], "ranks 0, 2 to 5")]
)
def test_ranks_in_words(ranks: list[int], text: str) -> None:
    assert ranks_text(ranks) == text


def test_of_many_recordings_one_at_a_time_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job(tmp_path, *[(1, False)] * 5)
    alive: list[int] = []
    loaded: weakref.WeakSet[Recording] = weakref.WeakSet()

    def counting(path: Path) -> Recording:
        alive.append(len(loaded))
        recording = load(path)
        loaded.add(recording)
        return recording

    monkeypatch.setattr(merged_recordings_module, "load", counting)
    gc.disable()  # as it is while gradscope works
    try:
        report_ranks([tmp_path], RunView(), Output("json", (tmp_path / "out.json",), None, None, True))
    finally:
        gc.enable()
    assert alive == [0] * 5


def test_what_is_no_job_is_refused(tmp_path: Path) -> None:
    job(tmp_path, (1, False))
    one = str(tmp_path / "run.rank0.gradscope")
    (tmp_path / "empty").mkdir()
    for given, message in (([one, one], "a second rank 0"), (["empty"], "there is no recording in empty")):
        refused = gradscope("report", *given, cwd=tmp_path)
        assert refused.returncode == 2
        assert message in refused.stderr

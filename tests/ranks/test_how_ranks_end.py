"""A rank that raises or is killed; a recording that cannot be written. (One that hangs: ``test_collectives``.)"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gradscope.analysis.view import RunView
from gradscope.cli.output import other_ranks
from gradscope.recording.launch import Launch
from tests.cli.command import gradscope
from tests.ranks.jobs import job, merged, screen


def test_a_rank_that_raises_is_the_first(tmp_path: Path):
    ended = job(
        tmp_path,
        """
        w = torch.ones(2, requires_grad=True)
        (w * 2).sum().backward()
        if rank == 1:
            raise ValueError("bad data")
        dist.all_reduce(w.grad)
        """,
    )
    assert [one.returncode for one in ended] == [1, 1]
    assert merged(tmp_path)["stopped_first"] == 1
    assert "rank 1 stopped first: it raised ValueError at line 9: bad data" in screen(tmp_path)


def test_of_a_rank_that_was_killed_is_said_where_it_was_seen_last(tmp_path: Path):
    ended = job(
        tmp_path,
        """
        w = torch.ones(2, requires_grad=True)
        (w * 2).sum().backward()
        if rank == 1:
            os.kill(os.getpid(), 9)
        dist.all_reduce(w.grad)
        """,
    )
    assert [one.returncode for one in ended] == [1, -9]
    assert merged(tmp_path)["stopped_first"] == 1
    shown = screen(tmp_path)
    assert "its recording has no end" in shown
    assert "rank 1 stopped first: it was killed: the first that ended lost its connection" in shown


def test_where_no_recording_can_be_written_the_ranks_go_on(tmp_path: Path):
    ended = job(tmp_path, "print('done', rank)", "-o", "nowhere/run.gradscope")
    for rank, one in enumerate(ended):
        assert (one.returncode, one.stdout.splitlines()[0]) == (0, f"done {rank}")
        assert one.stderr.count("\n") == 1
        assert one.stderr.startswith(f"gradscope: rank {rank} of 2: cannot write")
        assert one.stderr.endswith("; the program runs without it\n")
        assert (tmp_path / f"run.rank{rank}.gradscope").exists()


def test_the_rank_that_prints_says_what_the_others_did_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ended = job(
        tmp_path,
        """
        w = torch.ones(2, requires_grad=True)
        if rank == 1:
            w = w * 3
        w.sum().backward()
        dist.barrier()
        """,
    )
    assert "w = w * 3  rank 0: not there; rank 1: ran 1 time" in ended[0].stdout
    assert ended[0].stdout.endswith("gradscope report run.rank*.gradscope\n")
    assert not ended[1].stdout

    monkeypatch.setattr(other_ranks, "WAIT", 0)
    own, other = (tmp_path / f"run.rank{rank}.gradscope" for rank in (0, 1))
    began = own.stat().st_mtime
    asked = own, Launch(0, 0, 2), began, RunView()
    os.utime(other, (began + 1, began + 1))
    assert other_ranks.beside_others(*asked)
    os.utime(other, (began - 1, began - 1))  # of an earlier job
    assert other_ranks.beside_others(*asked) is None
    (tmp_path / "other.py").write_text("import torch\ntorch.ones(2)\n")
    gradscope("run", "-q", "-o", "other.gradscope", "other.py", cwd=tmp_path)
    (tmp_path / "other.gradscope").replace(other)  # of another program
    assert other_ranks.beside_others(*asked) is None

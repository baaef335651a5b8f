"""As which of several processes this one was started, and what that does to files and screens."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradscope.errors import UsageError
from gradscope.recording.file.store import load
from gradscope.recording.launch import Launch, launched_as, path_of_rank, ranks_in
from tests.cli.command import gradscope

SLURM = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4"}


@pytest.mark.parametrize(
    ("environment", "launch"),
    [
        ({}, None),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}, Launch(5, 1, 8)),
        ({"RANK": "x", "WORLD_SIZE": "8"}, None),
        ({"RANK": "9", "WORLD_SIZE": "8"}, None),
        ({"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4"}, Launch(0, 0, 4)),
        (
            {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"},
            Launch(3, 1, 4),
        ),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, Launch(1, 1, 2)),
        ({"PMI_RANK": "3", "PMI_LOCAL_RANK": "1", "PMI_SIZE": "4"}, Launch(3, 1, 4)),
        ({"PMI_RANK": "3", "MPI_LOCALRANKID": "1", "PMI_SIZE": "4", "SLURM_PROCID": "0"}, Launch(3, 1, 4)),
        ({**SLURM, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}, Launch(0, 0, 2)),
        (SLURM, None),  # python in a batch script, without srun
        ({**SLURM, "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, Launch(1, 1, 2)),  # mpirun in it
    ],
)
def test_what_launchers_say(environment: dict[str, str], launch: Launch | None) -> None:
    assert launched_as(environment) == launch


def test_a_file_of_its_own_for_each() -> None:
    assert path_of_rank(Path("a/run.gradscope"), Launch(3, 1, 4)) == Path("a/run.rank3.gradscope")
    assert path_of_rank(Path("a/run.gradscope"), None) == Path("a/run.gradscope")


def test_which_ranks_print() -> None:
    assert ranks_in("all", 3) == {0, 1, 2}
    assert ranks_in("1, 2", 3) == {1, 2}
    with pytest.raises(UsageError, match="names no rank"):
        ranks_in("first", 3)


def test_other_ranks_keep_quiet_unless_they_fail(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text("import sys, torch\ntorch.ones(1)\nsys.exit(int(sys.argv[1]))\n")
    second = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
    assert gradscope("run", "-o", "run.gradscope", "two.py", "0", cwd=tmp_path, **second).stdout == ""
    info = load(tmp_path / "run.rank1.gradscope").info
    assert (info.rank, info.local_rank, info.world_size, bool(info.host)) == (1, 1, 2, True)
    for options, code in ((["--rank", "all"], "0"), ([], "3")):
        assert "two.py  rank 1 of 2" in gradscope("run", *options, "two.py", code, cwd=tmp_path, **second).stdout

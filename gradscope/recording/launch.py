"""As which of several processes a launcher started this one: the variables of torchrun, SLURM and MPI."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gradscope.errors import UsageError

_VARIABLES = (
    (("RANK",), ("LOCAL_RANK",), ("WORLD_SIZE",)),  # torchrun, accelerate, lightning
    (("OMPI_COMM_WORLD_RANK",), ("OMPI_COMM_WORLD_LOCAL_RANK",), ("OMPI_COMM_WORLD_SIZE",)),  # Open MPI
    (("PMI_RANK",), ("MPI_LOCALRANKID", "PMI_LOCAL_RANK"), ("PMI_SIZE",)),  # MPICH (Hydra), Intel MPI, Cray
    (("SLURM_PROCID",), ("SLURM_LOCALID",), ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")),  # srun; it may start the others
)
"""Rank, local rank and world size, by launcher."""


class Launch(NamedTuple):
    """One process of several that do one job."""

    rank: int
    local_rank: int
    """Its number on its machine."""
    world_size: int

    @property
    def name(self) -> str:
        """For people."""
        return f"rank {self.rank} of {self.world_size}"


def launched_as(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """What the environment says of this process; None where it is alone."""
    for names in _VARIABLES:
        rank, local_rank, world_size = (
            next((environment[one] for one in several if environment.get(one)), "") for several in names
        )
        if "SLURM_PROCID" in names[0] and _is_batch_script(environment):
            continue
        if rank.isdecimal() and world_size.isdecimal() and int(rank) < int(world_size) > 1:
            return Launch(int(rank), int(local_rank) if local_rank.isdecimal() else int(rank), int(world_size))
    return None


def _is_batch_script(environment: Mapping[str, str]) -> bool:
    """Whether SLURM runs the process for itself: a batch script has the job's number of tasks, and is none of them."""
    is_step = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_STEP_ID")
    return bool(environment.get("SLURM_JOB_ID")) and not is_step


def path_of_rank(path: Path, launch: Launch | None) -> Path:
    """A file of this process alone: ``run.gradscope`` is ``run.rank0.gradscope`` for the first of several."""
    return path if launch is None else path.with_name(f"{path.stem}.rank{launch.rank}{path.suffix}")


def ranks_in(text: str, world_size: int) -> frozenset[int]:
    """The ranks that a text names: ``0``, ``1,3``, ``all``.

    Raises:
        UsageError: It names none.
    """
    if text == "all":
        return frozenset(range(world_size))
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"--rank: {text!r} names no rank", "ranks are numbers from 0, with commas between, or all")
    return frozenset(map(int, parts))

"""Options about a program's processes: the signal that asks for its screen so far, and what it starts."""

from __future__ import annotations

import os
import signal
from enum import Enum


class ChildProcesses(str, Enum):
    """Values of ``--children``."""

    NOTE = "note"
    """They are counted."""
    FOLLOW = "follow"
    """They are recorded, too."""
    OFF = "off"
    """Nothing is looked at, and nothing said."""


class ShowAt(str, Enum):
    """Values of ``--show-at``."""

    AUTO = "auto"
    """SIGUSR1, but under SLURM, where it may announce that the job's time is up: libraries handle it there only where
    nobody else does."""
    USR1 = "usr1"
    USR2 = "usr2"
    NONE = "none"

    @property
    def number(self) -> int | None:
        """The signal's number; None where it is none, or the system has none such."""
        if self is ShowAt.NONE or (self is ShowAt.AUTO and os.environ.get("SLURM_JOB_ID")):
            return None
        return getattr(signal, "SIGUSR2" if self is ShowAt.USR2 else "SIGUSR1", None)

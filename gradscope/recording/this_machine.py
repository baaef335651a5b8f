"""On what a recording is made."""

from __future__ import annotations

import os
import platform

from gradscope.recording.launch import launched_as
from gradscope.recording.model import RunInfo
from gradscope.version import VERSION


def platform_name() -> str:
    """As ``platform.platform()`` gives it on Linux, which starts a process to ask for the processor."""
    system, libc = platform.uname(), "".join(platform.libc_ver())
    return "-".join([system.system, system.release, system.machine, *(["with", libc] if libc else [])])


def describe_machine(info: RunInfo) -> None:
    """Note the versions of gradscope and Python, the platform, and which process of how many this is."""
    info.gradscope, info.python, info.platform = VERSION, platform.python_version(), platform_name()
    info.process, info.host = os.getpid(), platform.node()
    if launch := launched_as():
        info.rank, info.local_rank, info.world_size = launch

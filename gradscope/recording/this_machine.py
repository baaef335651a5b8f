"""On what a recording is made."""

from __future__ import annotations

import os
import platform

from gradscope.recording.model import RunInfo
from gradscope.version import VERSION


def platform_name() -> str:
    """As ``platform.platform()`` gives it on Linux, which starts a process to ask for the processor."""
    system, libc = platform.uname(), "".join(platform.libc_ver())
    return "-".join([system.system, system.release, system.machine, *(["with", libc] if libc else [])])


def describe_machine(info: RunInfo) -> None:
    """Note the versions of gradscope and Python, the platform, and the process."""
    info.gradscope, info.python, info.platform = VERSION, platform.python_version(), platform_name()
    info.process = os.getpid()

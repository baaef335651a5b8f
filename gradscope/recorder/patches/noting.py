"""How what stands for a function of torch's lets the recorders at work note what it saw."""

from __future__ import annotations

from collections.abc import Callable

from torch._C import DisableTorchFunction

from gradscope.recorder.calls.faults import is_programs
from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import aside


def note(where: str, observe: Callable[[RecorderMode], None]) -> None:
    """Let each recorder on top of the calling thread's stack note something, unless it is muted.

    No mode sees what is done for that; an error of ours is kept as a fault and does not reach the program.

    Args:
        where: What a fault is said to have happened in.
        observe: Notes it in the observer of a mode.
    """
    with aside() as modes:
        for mode in modes:
            if type(mode) is not RecorderMode or mode.muted or mode.observer.muted:
                continue
            try:
                with DisableTorchFunction():
                    observe(mode)
            except Exception as fault:
                if is_programs(fault):
                    raise
                mode.observer.fault(where)

"""How a program ended, in words."""

from __future__ import annotations


def program_end(kind: str, exit_code: int | None, message: str) -> str:
    """``exited with status 3``, ``was ended by SIGTERM``, ``was ended after 5 seconds (--timeout)``.

    Empty where it came to its end, raised or was cut off.

    Args:
        kind: As in :class:`gradscope.recording.Outcome`.
        exit_code: What it exited with.
        message: The name of the signal that ended it, where it is known; the time that it had.
    """
    if kind == "exit":
        return f"exited with status {exit_code}"
    if kind == "timeout":
        return f"was ended after {message or 'some time'} (--timeout)"
    return f"was ended by {message or 'a signal'}" if kind == "signal" else ""

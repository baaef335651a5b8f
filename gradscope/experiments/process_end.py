"""How the process of a program ended, in words: of a target of ``check``, of a variant of ``compare``."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, NamedTuple

from gradscope.isolated.job_output import TOO_MUCH
from gradscope.recording import Outcome
from gradscope.recording.program_end import program_end

if TYPE_CHECKING:
    from gradscope.isolated.jobs import Ending

_STATUS = re.compile(r"-?\d+|True|False|None|")
"""What ``sys.exit`` takes for a status, as it is printed; anything else is a text of the program's."""


class VariantEnd(NamedTuple):
    """How a variant ended."""

    kind: str
    """The outcome of its recording, or ``timeout``, ``output``, ``crash``."""
    exit_code: int | None
    message: str


def target_failure(outcome: Outcome | None, ending: Ending, timeout: float | None) -> str:
    """How a target failed; empty where it ended well.

    Args:
        outcome: How its program ended; None where the process was gone before it could say.
        ending: How its process ended.
        timeout: Seconds that it had.
    """
    if outcome is not None:
        failure = _program_failure(outcome)
        if failure or (outcome.kind != "running" and ending in (0, outcome.exit_code)):
            return failure
    if ending == "timeout":
        return f"it was stopped after {timeout:g} seconds"
    if ending == "output":
        return f"it was stopped: {TOO_MUCH}"
    if isinstance(ending, int) and ending < 0:
        return f"the process was killed by {_signal(ending)}"
    return f"the process ended with status {ending} before the program did"


def variant_end(outcome: Outcome, ending: Ending, complete: bool) -> VariantEnd:
    """How a variant ended: by its recording where it left one, else by what its process ended with.

    Args:
        outcome: That of its recording.
        ending: How its process ended.
        complete: Whether it left a recording.
    """
    kind, code = outcome.kind, outcome.exit_code
    if ending == "timeout":
        return VariantEnd("timeout", None, "stopped: it took longer than --timeout")
    if ending == "output":
        return VariantEnd("output", None, f"stopped: {TOO_MUCH}")
    if isinstance(ending, int) and ending < 0 and kind != "signal":
        return VariantEnd("crash", 128 - ending, f"the process died: {_signal(ending)}")
    if not complete:
        return VariantEnd("crash", int(ending), f"the process ended with status {ending} and left no recording")
    if kind == "running":
        return VariantEnd(kind, code, "the recording was cut off while it ran")
    message = program_end(kind, code, outcome.message).removeprefix("was ")
    if kind == "exit" and outcome.error_type and not _STATUS.fullmatch(outcome.message):
        message += f": {outcome.message}"
    return VariantEnd(kind, code, message or _error(outcome))


def _program_failure(outcome: Outcome) -> str:
    if outcome.kind in ("exception", "interrupted"):
        return " ".join(_error(outcome).rstrip(": ").split())
    if outcome.kind == "exit" and not outcome.exit_code:
        return ""
    ended = program_end(outcome.kind, outcome.exit_code, outcome.message)
    return f"it {ended}" if ended else ""


def _error(outcome: Outcome) -> str:
    return f"{outcome.error_type}: {outcome.message}" if outcome.message else outcome.error_type


def _signal(ending: int) -> str:
    return signal.Signals(-ending).name

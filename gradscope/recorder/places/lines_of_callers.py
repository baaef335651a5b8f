"""The lines of the user's file from which a function there was called."""

from __future__ import annotations

from types import FrameType

from gradscope.recorder.places.callers import CallSites


def lines_of_callers(sites: CallSites, frame: FrameType, at_most: int = 1) -> list[int]:
    """The line that called the function of the user's in which something was done, the line that called that, …

    Only while they are in one file.

    Args:
        sites: Knows whose a frame is.
        frame: What is done is done in it or in one that it was called by.
        at_most: Callers that are looked for.
    """
    found: list[int] = []
    inner = sites.locate(frame).user
    outer = inner.f_back if inner is not None else None
    while inner is not None and outer is not None and outer.f_code.co_filename == inner.f_code.co_filename:
        if len(found) == at_most:
            break
        found.append(outer.f_lineno or 0)
        outer = outer.f_back
    return found

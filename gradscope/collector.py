"""Python's garbage collector: at rest while gradscope itself works, for a program as Python would have given it.

What gradscope imports and computes lives until the process ends; to look it over again and again takes a tenth of the
time of a short command. At rest also means that no ``__del__`` of a program's is run while gradscope shows what it saw.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_is_ours = False
"""Whether this process is gradscope's: ``gradscope.record()`` in somebody's program leaves the collector alone."""
_rests = False
_program_collects = True
"""How Python gave the collector to the process, or the program left it."""


def rest() -> None:
    """Let the collector rest: this process is gradscope's, and whenever no program runs."""
    global _is_ours
    _is_ours = True
    take_back()


def give_to_program() -> None:
    """Let the collector work for a program that begins now."""
    if _rests and _program_collects:
        _grow_old()
    give_back()


def take_back() -> None:
    """Let the collector rest again, and remember how the program left it."""
    global _rests, _program_collects
    if _is_ours and not _rests:
        _rests, _program_collects = True, gc.isenabled()
        gc.disable()


def give_back() -> None:
    """Let the collector work as the program left it, for what is left to do when the process ends."""
    global _rests
    if _rests:
        _rests = False
        if _program_collects:
            gc.enable()


def collect() -> None:
    """Give back what lies in cycles and nobody refers to: where one large thing is looked at after the other."""
    gc.collect()


@contextmanager
def resting(*, grown_old: bool = False) -> Iterator[None]:
    """For work in the middle of a program.

    Args:
        grown_old: Whether what was made meanwhile stays, so that the next collection need not look it over.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            if grown_old and not gc.get_freeze_count():  # what the program has frozen itself stays so
                _grow_old()
            gc.enable()


def _grow_old() -> None:
    """Move all there is to the permanent generation and back: then it is old."""
    gc.freeze()
    gc.unfreeze()

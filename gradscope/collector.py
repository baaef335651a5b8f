"""Python's garbage collector: at rest while gradscope itself works, for a program as Python would have given it.

What gradscope imports and computes lives until the process ends; to look it over again and again takes a tenth of the
time of a short command. At rest also means that no ``__del__`` of a program's is run while gradscope shows what it saw.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_rests = False
_program_collects = True


def rest() -> None:
    """From now on this process is gradscope's: the collector rests until a program runs."""
    global _rests, _program_collects
    _rests, _program_collects = True, gc.isenabled()
    gc.disable()


def give_to_program() -> None:
    """Let the collector work as Python gave it to the process, for a program that begins now."""
    if _rests and _program_collects:
        # Moved to the permanent generation and back, all there is is old: the first collection need not look it over.
        gc.freeze()
        gc.unfreeze()
        gc.enable()


def give_back() -> None:
    """Let the collector work as the program left it, for what is left to do when the process ends."""
    if _rests and _program_collects:
        gc.enable()


def take_back() -> None:
    """Let the collector rest again, and remember how the program left it."""
    global _program_collects
    if _rests:
        _program_collects = gc.isenabled()
        gc.disable()


@contextmanager
def resting() -> Iterator[None]:
    """For work of gradscope's in the middle of a program."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()

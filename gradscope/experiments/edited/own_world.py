"""What a program finds around it in a process of its own: its input, its random numbers; and what it did with them."""

from __future__ import annotations

import io
import os
import random
import sys
from typing import Any

import torch

try:
    import numpy.random as numpy_random  # before the forks, and before a program that imports it only later
except ImportError:
    numpy_random = None  # type: ignore[assignment]


def begin_random(seed: int | None) -> None:
    """Start every random number generator: from a number, or from one that nobody knows, as a new interpreter does."""
    if seed is None:
        torch.seed()
        if numpy_random is not None:
            numpy_random.seed()
        random.seed()
        return
    random.seed(seed)
    torch.manual_seed(seed)
    if numpy_random is not None:
        numpy_random.seed(seed)


class GivenInput(io.FileIO):
    """Standard input of the program, which knows whether it was read."""

    was_read = False

    def readinto(self, buffer: Any) -> Any:
        """As it is called by what reads through a buffer."""
        self.was_read = True
        return super().readinto(buffer)

    def readall(self) -> bytes:
        """As it is called by what reads it whole."""
        self.was_read = True
        return super().readall()


def give_input(path: str | None) -> GivenInput:
    """Let the program read a file as its standard input; without one its input is empty."""
    descriptor = os.open(path or os.devnull, os.O_RDONLY)
    os.dup2(descriptor, 0)
    os.close(descriptor)
    given = GivenInput(0, "r", closefd=False)
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.BufferedReader(given), encoding="utf-8")  # type: ignore[misc]
    return given

"""Whose code a frame runs: the user's, torch's, gradscope's, or somebody else's."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from types import CodeType

import torch


class Owner(IntEnum):
    """Whose code it is."""

    USER = 0
    TORCH = 1
    LIBRARY = 2
    """A third-party package or, in a run of a third-party module, what is neither torch nor Python's own."""
    PYTHON = 3
    """The standard library, frozen and generated code."""
    GRADSCOPE = 4


_TORCH = str(Path(torch.__file__).parent) + os.sep
_GRADSCOPE = str(Path(__file__).parents[2]) + os.sep
_SCENARIOS = _GRADSCOPE + "_scenarios" + os.sep
"""Where the wheel puts the built-in scenarios: user code like any other."""
_STANDARD = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})


class CodeOwners:
    """Tells code objects apart by file name, each once.

    A code object is kept alive for as long as its id is used as a key; code holds no tensors.
    """

    def __init__(self, is_user: Callable[[str], bool]) -> None:
        self._is_user = is_user
        self.known: dict[int, Owner] = {}
        self._keep: list[CodeType] = []

    def of(self, code: CodeType) -> Owner:
        """Whose code it is."""
        known = self.known.get(id(code))
        if known is None:
            known = self.known[id(code)] = self._classify(code.co_filename)
            self._keep.append(code)
        return known

    def _classify(self, filename: str) -> Owner:
        if filename.startswith(_GRADSCOPE) and not filename.startswith(_SCENARIOS):
            return Owner.GRADSCOPE
        if filename.startswith(_TORCH):
            return Owner.TORCH
        if self._is_user(filename):
            return Owner.USER
        if "site-packages" in filename or "dist-packages" in filename:
            return Owner.LIBRARY
        if filename.startswith("<") or filename.startswith(_STANDARD):
            return Owner.PYTHON
        return Owner.LIBRARY

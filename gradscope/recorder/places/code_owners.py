"""Whose code a frame runs: the user's, torch's, gradscope's, or somebody else's."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from types import CodeType

import torch

from gradscope.frames.calls.backward_helpers import calls_backward_only
from gradscope.frames.whose_file import is_gradscope, is_installed, is_standard_library, within


class Owner(IntEnum):
    """Whose code it is."""

    USER = 0
    TORCH = 1
    LIBRARY = 2
    """A third-party package or, in a run of a third-party module, what is neither torch nor Python's own."""
    PYTHON = 3
    """The standard library, frozen and generated code."""
    GRADSCOPE = 4
    HELPER = 5
    """A function of the user's that calls backward for its caller and does nothing else: its caller's line counts."""


_TORCH = within(Path(torch.__file__).parent)


def is_torch(filename: str) -> bool:
    """Whether a file is torch's own."""
    return filename.startswith(_TORCH)


class CodeOwners:
    """Tells code objects apart by file name, each once.

    A code object is kept alive for as long as its id is used as a key; code holds no tensors.
    """

    def __init__(self, is_user: Callable[[str], bool], text_of: Callable[[str], str]) -> None:
        """Takes what tells the user's files by their names, and what gives the text of one that is."""
        self._is_user = is_user
        self._text_of = text_of
        self.known: dict[int, Owner] = {}
        self._keep: list[CodeType] = []

    def of(self, code: CodeType) -> Owner:
        """Whose code it is."""
        known = self.known.get(id(code))
        if known is None:
            known = self.known[id(code)] = self._classify(code)
            self._keep.append(code)
        return known

    def _classify(self, code: CodeType) -> Owner:
        filename = code.co_filename
        if is_gradscope(filename):
            return Owner.GRADSCOPE
        if is_torch(filename):
            return Owner.TORCH
        if self._is_user(filename):
            return Owner.HELPER if calls_backward_only(code, self._text_of(filename)) else Owner.USER
        if not is_installed(filename) and (filename.startswith("<") or is_standard_library(filename)):
            return Owner.PYTHON
        return Owner.LIBRARY

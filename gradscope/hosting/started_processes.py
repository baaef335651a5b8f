"""The processes that a program starts: counted, and recorded each for itself where that was asked for.

Seen are forks (also those of ``multiprocessing`` and of DataLoader workers), the interpreters that ``multiprocessing``
starts for ``spawn`` and ``forkserver``, and Python or torchrun started by ``subprocess``; the last are only counted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any, Protocol

import gradscope.hosting.process  # noqa: F401 - in a fork its hook, which takes signal handlers away, comes before ours
from gradscope.frames.replacements import Replacement

_BOOTSTRAPS = ("from multiprocessing.spawn import ", "from multiprocessing.forkserver import ")
"""How the code begins that ``multiprocessing`` gives to an interpreter for its processes (and not for its own ends)."""

_LAUNCHERS = ("python", "torchrun", "accelerate")
"""How the names of commands begin that run programs of the user's."""


class Children(Protocol):
    """What records the processes that a program starts."""

    def forked(self, number: int) -> None:
        """This process was forked, as the program's child of that number (from 1 on)."""

    def prelude(self, number: int, code: str) -> str:
        """What a Python that is to run some code of ``multiprocessing``'s runs before it; empty: nothing."""


class StartedProcesses:
    """Counts what one program starts.

    Args:
        children: What records it; None: nothing.
    """

    def __init__(self, children: Children | None) -> None:
        self.count = 0
        self._children = children
        self._replaced: list[Replacement] = []

    def install(self) -> None:
        """Begin to count forks."""
        _counting.append(self)

    def follow_commands(self) -> None:
        """Begin to count what is started by the modules for it, which have been imported."""
        util, subprocess = sys.modules.get("multiprocessing.util"), sys.modules.get("subprocess")
        if util is not None and hasattr(util, "spawnv_passfds"):  # not on Windows
            self._replaced.append(Replacement(util, "spawnv_passfds", self._following))
        if subprocess is not None:
            self._replaced.append(Replacement(subprocess.Popen, "_execute_child", self._noticing))

    def remove(self) -> None:
        """Count no more."""
        if self in _counting:
            _counting.remove(self)
        for replaced in self._replaced:
            replaced.put_back()
        self._replaced.clear()

    def in_fork(self) -> None:
        """This process was forked: it is no more the one whose processes are counted here."""
        self.remove()
        if self._children is not None:
            self._children.forked(self.count)

    def _following(self, spawn: Callable[..., int]) -> Callable[..., int]:
        def spawnv_passfds(path: Any, args: Any, passfds: Any) -> int:
            code = next((text for text in args if isinstance(text, str) and text.startswith(_BOOTSTRAPS)), None)
            if code is not None and self in _counting:
                self.count += 1
                before = "" if self._children is None else self._children.prelude(self.count, code)
                args = [before + code if text is code else text for text in args]
            return spawn(path, args, passfds)

        return spawnv_passfds

    def _noticing(self, execute: Callable[..., None]) -> Callable[..., None]:
        def _execute_child(popen: Any, args: Any, executable: Any, *others: Any) -> None:
            if self in _counting and _runs_programs(executable or args):
                self.count += 1
            execute(popen, args, executable, *others)

        return _execute_child


def _runs_programs(command: Any) -> bool:
    plain = (str, bytes, os.PathLike)
    first = command if isinstance(command, plain) else next(iter(command), "")
    text = os.fsdecode(first).split(" ")[0] if isinstance(first, plain) else ""
    return text == sys.executable or PurePath(text).name.startswith(_LAUNCHERS)


_counting: list[StartedProcesses] = []
"""Of the runs under way; empty without one, and the hooks below do nothing."""


@contextmanager
def forks_of_our_own() -> Iterator[None]:
    """What is forked inside is no process of the program's."""
    others = _counting[:]
    _counting.clear()
    try:
        yield
    finally:
        _counting.extend(others)


def _before_fork() -> None:
    for started in _counting:
        started.count += 1


def _in_fork() -> None:
    for started in _counting[:]:
        started.in_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork either
    os.register_at_fork(before=_before_fork, after_in_child=_in_fork)

"""A command of gradscope in a process of its own, ended when it takes too long or is called off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import anyio
from anyio.abc import ByteReceiveStream, Process

_COMMAND = (sys.executable, str(Path(__file__).parents[2] / "__main__.py"))
"""By its path: with ``-m``, a folder called gradscope where it is run would be taken for it."""
_SECONDS_TO_END = 5.0
"""After SIGTERM, for completing the recording; then it is killed."""
_SECONDS_TO_READ = 1.0
"""After the end, for output in the pipe; a process that it left behind may hold it open for ever."""
_KEPT = 64 * 1024
"""Bytes of output kept: the last ones."""


class Ended(NamedTuple):
    """How a command ended."""

    exit_code: int
    """Negative: the number of the signal that ended it."""
    printed: str
    """The end of what it and the program printed."""
    took_too_long: bool


async def run_command(arguments: Sequence[str], folder: Path, seconds: float, result: Path | None = None) -> Ended:
    """Run a command; its standard input is empty, and no process is left of it.

    Args:
        arguments: What stands behind ``gradscope``.
        folder: Where to run it.
        seconds: How long it may take.
        result: Where its standard output goes; without one, to what was printed.
    """
    with _output_to(result) as output:
        process = await anyio.open_process(
            [*_COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output or subprocess.PIPE,
            stderr=subprocess.PIPE if output else subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
            env={**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
        )
    kept = bytearray()
    is_read = anyio.Event()
    took_too_long = True
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_read, process.stderr if result else process.stdout, kept, is_read)
            with anyio.move_on_after(seconds):
                await process.wait()
                took_too_long = False
            await _end(process)
            with anyio.move_on_after(_SECONDS_TO_READ):
                await is_read.wait()
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)
            await process.aclose()
    return Ended(process.returncode or 0, bytes(kept).decode("utf-8", "replace"), took_too_long)


@contextmanager
def _output_to(file: Path | None) -> Iterator[BinaryIO | None]:
    if file is None:
        yield None
        return
    with file.open("wb") as stream:
        yield stream


async def _read(stream: ByteReceiveStream | None, kept: bytearray, is_read: anyio.Event) -> None:
    """Keep the end of what comes, and go on reading: a pipe that is full would stop the program."""
    if stream is not None:
        async for chunk in stream:
            kept += chunk
            del kept[:-_KEPT]
    is_read.set()


async def _end(process: Process) -> None:
    """End a command that still runs, after it had time to complete its recording, and whatever it left running."""
    if process.returncode is None:
        process.terminate()
        with anyio.move_on_after(_SECONDS_TO_END):
            await process.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()

"""Running code as a user with no rights, since root may read and write anything."""

import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import run as run_command

_DROP_RIGHTS = """
import os, gradscope
gradscope.load, gradscope.save, gradscope.Recording
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""


@contextmanager
def as_nobody_sees(content: bytes, name: str, mode: int = 0o444) -> Iterator[tuple[Path, Callable[[str], str]]]:
    """A folder that cannot be written, with one file in it, and a function that runs code and returns its output."""
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / name).write_bytes(content)
        (folder / name).chmod(mode)
        folder.chmod(0o555)
        yield folder, _run
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def _run(code: str) -> str:
    source = _DROP_RIGHTS + textwrap.dedent(code)
    done = run_command([sys.executable, "-c", source], env=dict(os.environ))
    assert done.stderr == ""
    return done.stdout.strip()

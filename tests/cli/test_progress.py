"""The line that tells on a terminal how far a program has come, and how it gives way to the program."""

from __future__ import annotations

import _thread
import fcntl
import os
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import pytest

from gradscope.cli.output.progress_words import progress_words
from gradscope.hosting.progress_line import Progress, ProgressLine
from gradscope.hosting.shared_terminal import SharedTerminal
from tests.cli.command import GRADSCOPE, gradscope

ERASED = "\x1b[J"
SILENT = textwrap.dedent("""
    import sys, torch
    held = torch.ones(256, 4)
    sys.stdin.readline()
    print("over", "write" in vars(sys.stdout))
    sys.stdout.write("a prompt")
""")
GIVING_WAY = textwrap.dedent("""
    import sys
    from gradscope.hosting.shared_terminal import shared_terminal

    terminal = shared_terminal()
    terminal.watch()
    terminal.draw("ONE"), print("after one")
    terminal.draw("TWO"), print("a prompt: ", end="")
    terminal.draw("REFUSED"), print("its end")
    terminal.draw("THREE"), input("name? "), terminal.draw("FOUR")
    terminal.leave()
    terminal.draw("REFUSED")
    print("write" in vars(sys.stdout), type(input).__name__)
""")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="there are no such terminals")


def drawn(text: str) -> str:
    return f"{ERASED}\x1bD\x1b[A\x1b7\x1b[B\r{text}\x1b8"


class _Terminal:
    """A terminal with a program on it."""

    def __init__(self, command: list[str], cwd: Path) -> None:
        self._ours, theirs = os.openpty()
        self.written = ""
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
        )
        os.close(theirs)

    def read_until(self, text: str) -> None:
        while text not in self.written:
            self.written += os.read(self._ours, 4096).decode()

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> int:
        try:
            while piece := os.read(self._ours, 4096):
                self.written += piece.decode()
        except OSError:  # how Linux says that nobody is on the other side
            pass
        os.close(self._ours)
        return self.process.wait()


def test_a_silent_program_has_a_line_that_goes_before_it_writes(tmp_path: Path):
    (tmp_path / "silent.py").write_text(SILENT)
    terminal = _Terminal([GRADSCOPE, "run", "-q", "silent.py"], tmp_path)
    terminal.read_until("| 1 op | tensors 4.0 KiB | kill -USR1 ")
    terminal.type("\n")
    assert terminal.end() == 0
    assert f"{ERASED}over True\r\na prompt" in terminal.written and terminal.written.endswith("a prompt")


def test_it_gives_way_to_output_prompts_and_questions(tmp_path: Path):
    terminal = _Terminal([sys.executable, "-c", GIVING_WAY], tmp_path)
    terminal.read_until("name? ")
    terminal.type("Ann\n")
    assert terminal.end() == 0
    assert "REFUSED" not in terminal.written
    assert f"{drawn('ONE')}{ERASED}after one\r\n{drawn('TWO')}{ERASED}a prompt: its end\r\n" in terminal.written
    assert f"{drawn('THREE')}{ERASED}name? Ann\r\n{drawn('FOUR')}{ERASED}" in terminal.written
    assert terminal.written.endswith("False builtin_function_or_method\r\n")


def test_in_a_pipe_and_where_it_is_not_wanted_there_is_none(tmp_path: Path):
    (tmp_path / "looks.py").write_text("import sys\nprint('write' in vars(sys.stdout), end=' ')\n")
    assert gradscope("run", "-q", "--progress", "looks.py", cwd=tmp_path, TERM="xterm").stdout == "False "
    terminal = _Terminal([GRADSCOPE, "run", "-q", "--no-progress", "looks.py"], tmp_path)
    assert (terminal.end(), terminal.written) == (0, "False ")
    read = _Terminal(["sh", "-c", f"{GRADSCOPE} run -q looks.py | cat"], tmp_path)
    assert (read.end(), read.written) == (0, "False ")


def test_what_grows_is_the_least_that_lives():
    line = ProgressLine(SharedTerminal(-1, ()), lambda: None, lambda progress: "")
    for look in range(40):
        step = line.progress(look, 1000 + 10 * (look // 20) + 500 * (look % 2))
    assert (step.ops, step.nbytes, step.growth) == (39, 1510, 10)


def test_its_words_fit_a_narrow_terminal():
    shown = progress_words(Progress(75.3, 412_330, 2048, 1024), shown_at=None)
    assert shown == "gradscope 1:15 | 412,330 ops | tensors 2.0 KiB, grown by 1.0 KiB"
    assert progress_words(Progress(3661, 1, 12, -4), shown_at="SIGUSR2").startswith(
        "gradscope 1:01:01 | 1 op | tensors"
    )


def test_the_thread_ends_with_the_line():
    looked, threads = [], _thread._count()
    line = ProgressLine(SharedTerminal(-1, ()), lambda: looked.append(1), lambda progress: "", interval=0.001)
    line.start()
    while len(looked) < 3:
        time.sleep(0.001)
    line.stop()
    line.stop()
    deadline = time.monotonic() + 30
    while _thread._count() > threads and time.monotonic() < deadline:
        time.sleep(0.001)
    assert _thread._count() <= threads

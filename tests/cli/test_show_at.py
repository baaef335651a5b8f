"""The screen so far, at a signal; the program goes on and does not notice."""

from __future__ import annotations

import textwrap
from pathlib import Path

from gradscope.recording.file.store import load
from tests.cli.command import gradscope

LOOKED_AT = textwrap.dedent("""
    import os, signal, torch, warnings
    warnings.simplefilter("error")
    w = torch.ones(2, requires_grad=True)
    kept = []
    def train():
        for step in range(4):
            loss = (w * step).sum()
            loss.backward()
            kept.append(loss)
            if step == 2:
                os.kill(os.getpid(), signal.SIGUSR1)
    train()
    try:
        os.wait()
    except ChildProcessError:
        print("no child")
""")


def test_the_screen_so_far_is_shown_and_the_program_goes_on(tmp_path: Path):
    (tmp_path / "looked_at.py").write_text(LOOKED_AT)
    done = gradscope("run", "-o", "run.gradscope", "looked_at.py", cwd=tmp_path, SLURM_JOB_ID="", COLUMNS="200")
    assert done.returncode == 0 and done.stdout.startswith("no child\n")
    assert "looked_at.py  goes on: what follows is what it has done so far\n" in done.stderr
    assert "8 ×3  loss = (w * step).sum()" in done.stderr and "8 ×4  loss = (w * step).sum()" in done.stdout
    recording = load(tmp_path / "run.gradscope")
    assert (recording.info.outcome.kind, len(recording.backwards), recording.faults) == ("ok", 4, [])


def test_a_signal_that_the_program_handles_is_its_own(tmp_path: Path):
    source = "import os, signal\nsignal.signal(signal.SIGUSR1, lambda *_: print('mine'))\nimport torch\n"
    (tmp_path / "handles.py").write_text(source + "os.kill(os.getpid(), signal.SIGUSR1)\n")
    done = gradscope("run", "-q", "handles.py", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "mine\n", "")


def test_it_can_be_switched_off_and_is_off_under_slurm(tmp_path: Path):
    (tmp_path / "asks.py").write_text("import signal\nprint(signal.getsignal(signal.SIGUSR1))\n")
    for options, environment in ((["--show-at", "none"], {}), ([], {"SLURM_JOB_ID": "7"})):
        done = gradscope("run", "-q", *options, "asks.py", cwd=tmp_path, **environment)
        assert done.stdout == "0\n" or "SIG_DFL" in done.stdout

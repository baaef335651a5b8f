"""A variant may do what it likes: it is a column that says so, and the others stand."""

import os
import re
import signal
import time
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from gradscope.analysis.comparison.comparison_model import Comparison
from gradscope.experiments.compare.comparing import compare
from gradscope.experiments.compare.variant_process import SEED
from gradscope.report.compare.compare_screen import render_printed
from tests.cli.command import GRADSCOPE
from tests.processes import started

SETUP = '''"""Variants that end in every way."""
import os, signal, sys, time
import torch
x = torch.ones(2, requires_grad=True)
# %% good
y = x * 2
'''


def run(tmp_path: Path, *cells: str, **options: object) -> Comparison:
    file = tmp_path / "ends.py"
    file.write_text(SETUP + "".join(f"# %% cell {at}\n{cell}\n" for at, cell in enumerate(cells)))
    return compare(str(file), **options)  # type: ignore[arg-type]


def ending(comparison: Comparison, at: int) -> tuple[str, str]:
    variant = comparison.variants[at]
    return variant.outcome, variant.message


def test_raising_exiting_and_crashing_variants_are_columns(tmp_path: Path) -> None:
    comparison = run(
        tmp_path,
        "y = x * 3\nprint('before')\nraise ValueError('no \\x1b[31mgood')",
        "y = x * 3\nsys.exit(7)",
        "y = x * 3\nos._exit(9)",
        "y = x * 3\nimport faulthandler; faulthandler.disable()\nos.kill(os.getpid(), signal.SIGSEGV)",
        "y = x * 3\nos.kill(os.getpid(), signal.SIGTERM)",
    )
    assert [ending(comparison, at) for at in range(6)] == [
        ("ok", ""),
        ("exception", "ValueError: no \x1b[31mgood"),
        ("exit", "exited with status 7"),
        ("exit", "exited with status 9"),
        ("crash", "the process died: SIGSEGV"),
        ("signal", "ended by SIGTERM"),
    ]
    assert comparison.variants[1].line == 10
    assert "before" in comparison.variants[1].output
    requires_grad = next(
        row
        for group in compare_all(tmp_path).groups
        for row in group.rows
        if (row.fact, row.name) == ("requires_grad", "y")
    )
    assert [cell.value for cell in requires_grad.cells] == [True, True, True, True, None, True]


def test_nothing_is_said_of_a_variant_that_left_no_recording(tmp_path: Path) -> None:
    dies = "os.kill(os.getpid(), signal.SIGKILL)"
    comparison = run(tmp_path, dies, "y = x.detach()", only=["cell 0", "cell 1", "good"])
    rows = [row for group in comparison.groups for row in group.rows if row.fact != "outcome"]
    assert rows and all(row.cells[1].kind == "missing" for row in rows)
    assert not any(row.fact == "present" for row in rows)
    first = run(tmp_path, dies, "y = x * 2", only=["cell 0", "cell 1"])
    assert (first.torch, first.differs) == (torch.__version__, True)
    assert {row.fact for group in first.groups for row in group.rows} == {"outcome"}


def test_how_variants_ended_is_said_also_where_all_ended_alike(tmp_path: Path) -> None:
    comparison = run(tmp_path, "raise ValueError('why')", "raise ValueError('why')", only=["cell 0", "cell 1"])
    assert not comparison.differs
    ((row,),) = [group.rows for group in comparison.groups]
    assert [cell.value for cell in row.cells] == ["ValueError: why"] * 2


def test_a_program_that_exits_says_why_and_has_not_raised(tmp_path: Path) -> None:
    comparison = run(tmp_path, "sys.exit('why')", "sys.exit(1)", "os._exit(1)")
    assert [ending(comparison, at) for at in (1, 2, 3)] == [
        ("exit", "exited with status 1: why"),
        ("exit", "exited with status 1"),
        ("exit", "exited with status 1"),
    ]
    assert [variant.line for variant in comparison.variants] == [0, 0, 0, 0]


def test_times_have_names_of_their_own_and_a_reason_where_there_are_none(tmp_path: Path) -> None:
    comparison = run(tmp_path, "y = x * 2\nraise ValueError", repeat=2)
    rows = {row.name: row for group in comparison.groups for row in group.rows if row.fact == "time"}
    assert list(rows) == ["forward", "forward_spread", "backward", "backward_spread"]
    assert isinstance(rows["forward"].cells[0].value, int) and comparison.repeat == 2
    assert (rows["forward"].cells[1].value, rows["forward"].cells[1].kind) == ("not timed: exception", "error")


def compare_all(tmp_path: Path) -> Comparison:
    return compare(str(tmp_path / "ends.py"), all_rows=True)


def test_a_variant_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    comparison = run(tmp_path, "child = os.fork()\ntime.sleep(600)", timeout=2.0)
    assert [variant.outcome for variant in comparison.variants] == ["ok", "timeout"]


def test_numbers_of_numpy_are_the_same_in_all(tmp_path: Path) -> None:
    cell = "import numpy\ny = float(numpy.random.rand())\n# watch: y"
    comparison = run(tmp_path, cell, cell)
    (row,) = [row for group in comparison.groups for row in group.rows if row.fact == "watch"]
    assert row.cells[1].value == row.cells[2].value


def test_a_variant_that_prints_without_end_is_ended_and_little_of_it_kept(tmp_path: Path) -> None:
    comparison = run(tmp_path, "os.write(1, b'first')\nwhile os.write(1, b'x' * 2**20):\n    time.sleep(0.001)")
    variant = comparison.variants[1]
    assert (variant.outcome, variant.message) == ("output", "stopped: it printed more than 64 MB")
    assert variant.output.startswith("first") and 1_000_000 < len(variant.output) < 1_100_000
    assert re.search(r"x\n… \d+ bytes left out …\nx", variant.output)
    screen = StringIO()
    render_printed(comparison, Console(file=screen), everything=True)
    assert "characters left out" in screen.getvalue() and len(screen.getvalue()) < 10_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_what_was_started_and_leaves_nothing(tmp_path: Path, number: int) -> None:
    (tmp_path / "hangs.py").write_text(
        "import os, time\nopen(f'{os.fork()}.pid', 'w').close()\ntime.sleep(600)  # expect: True\n"
    )
    folders = tmp_path / "folders"
    folders.mkdir()
    with started(
        [GRADSCOPE, "check", "hangs.py"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(folders)},
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # nohup lets it be ignored
    ) as process:
        while len(list(tmp_path.glob("*.pid"))) < 2:
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait() == 128 + number
    assert list(folders.iterdir()) == []
    (child,) = (int(path.stem) for path in tmp_path.glob("*.pid") if path.stem != "0")
    with pytest.raises(ProcessLookupError):
        while True:
            os.kill(child, 0)
            time.sleep(0.05)


def test_variants_start_from_the_same_random_numbers(tmp_path: Path) -> None:
    comparison = run(tmp_path, "y = torch.rand(2)\n# watch: y.tolist()", "y = torch.rand(2)\n# watch: y.tolist()")
    (row,) = [row for group in comparison.groups for row in group.rows if row.fact == "watch"]
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        assert row.cells[1].value == row.cells[2].value == str(torch.rand(2).tolist())


def test_new_interpreters_give_what_forks_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forked = run(tmp_path, "y = x.detach()")
    from gradscope.isolated import jobs as isolated

    started = []

    class Counted(isolated.Spawned):
        def __init__(self, job: isolated.Job, folder: Path) -> None:
            started.append(folder)
            super().__init__(job, folder)

    monkeypatch.delattr(isolated.os, "fork")
    monkeypatch.setattr(isolated, "Spawned", Counted)
    spawned = compare(str(tmp_path / "ends.py"))
    assert len(started) == 2
    assert spawned.groups == forked.groups

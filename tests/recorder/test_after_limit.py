"""What is known of a run after ``--max-ops`` was reached: how often what was called, errors, losses not finite."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from rich.console import Console

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import AfterLimit
from gradscope.recorder import tape
from gradscope.recorder.calls import after_limit
from gradscope.recorder.calls.after_limit import ERRORS
from gradscope.recorder.session import Recorder
from gradscope.recording import Recording
from gradscope.report.run.run_screen import render
from tests.analysis.building import recorded

TRAINING = """
    import torch
    from torch import nn
    torch.manual_seed(0)
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 1)])
            self.norm = nn.BatchNorm1d(4)
            self.register_buffer("seen", torch.zeros(4))
        def forward(self, x):
            self.seen[0] = 1
            return self.layers[1](torch.relu(self.norm(self.layers[0](x))))
    net = Net()
    optimizer = torch.optim.Adam(net.parameters())
    x, y = torch.randn(8, 4), torch.randn(8, 1)
    total = torch.zeros(())
    for step in range(RUNS):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        total += loss.detach()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(0.999)
        if total.item() > 1e9:
            break
"""


def _training(runs: int) -> str:
    return TRAINING.replace("RUNS", str(runs))


def _calls(recording: Recording) -> Counter[tuple[int, str]]:
    """Ops by line and function, those that were left out among them."""
    lines = recording.spans.column("line")
    found = Counter((lines[op.span], recording.text(op.func)) for op in recording.ops)
    for row in recording.left_out:
        found[lines[row.span], recording.text(row.func)] += row.left_out
    return found


@pytest.mark.parametrize("limit", [0, 1, 40, 97, 200])
def test_what_is_left_out_is_counted_as_the_ops_that_it_would_have_been(limit: int) -> None:
    whole, limited = recorded(_training(11)), recorded(_training(11), max_ops=limit)
    assert len(limited.ops) == limit < len(whole.ops)
    assert _calls(limited) == _calls(whole)


@pytest.mark.parametrize("limit", [60, 200])
def test_each_line_is_said_to_have_run_as_often_as_it_did(limit: int) -> None:
    runs = [
        {(row.line, row.kind): row.executions for row in build(recorded(_training(11), max_ops=limit)).lines}
        for limit in (None, limit)
    ]
    both = runs[0].keys() & runs[1].keys()
    assert len(both) > 8
    assert {key: runs[0][key] for key in both} == {key: runs[1][key] for key in both}


def test_nothing_grows_with_the_run_after_the_limit() -> None:
    rows = [
        {name: len(table) for name, table in recorded(_training(runs), max_ops=100).tables.items()} for runs in (40, 80)
    ]
    assert rows[0] == rows[1]


CHECKPOINTED = """
    import torch
    from torch.utils.checkpoint import checkpoint
    layer = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU(), torch.nn.Linear(3, 3))
    x = torch.randn(2, 3)
    for step in range(6):
        checkpoint(layer, x, use_reentrant=False).sum().backward()
"""


def test_what_checkpoint_runs_again_is_no_call_of_the_backward_pass_after_the_limit_either() -> None:
    whole, limited = recorded(CHECKPOINTED), recorded(CHECKPOINTED, max_ops=10)
    assert _calls(limited) == _calls(whole)
    assert not whole.errors and not limited.errors  # (checkpoint ends what it runs again by an error of its own)


LATE = """
    import torch
    w = torch.ones(3, requires_grad=True)
    for step in range(150):
        w.grad = None
        loss = (w * 2).sum()
        if step == 93:
            loss = loss / torch.zeros(())
        loss.backward()
        if step >= 101:
            try:
                w @ torch.ones(4)
            except RuntimeError:
                pass
    w.no_such
"""


def test_a_late_error_a_late_line_and_a_late_infinity_are_told() -> None:
    recording = recorded(LATE, max_ops=100)
    report = build(recording)
    assert [(one.place.line, one.executions) for one in report.errors if "size mismatch" in one.message or one.op] == [
        (11, ERRORS)
    ]
    after = report.after_limit
    assert after.passes < 150 and after.not_finite == 1
    assert (after.first_not_finite, after.first_place.line) == (94, 8)
    assert {call.place.line for call in after.new_lines} == {7}
    screen = io.StringIO()
    render(report, Console(file=screen, width=200))
    assert "the loss was not finite in 1 of" in screen.getvalue()
    assert "the first of them pass 94 of the run at line 8" in screen.getvalue()
    assert "after that these lines ran for the first time: 7 (×1)" in screen.getvalue()
    assert "of all runs" not in screen.getvalue()


def test_a_run_within_the_limit_says_nothing_of_it() -> None:
    report = build(recorded(LATE, max_ops=100_000))
    assert report.after_limit == AfterLimit()
    screen = io.StringIO()
    render(report, Console(file=screen, width=200))
    assert "max-ops" not in screen.getvalue()


@pytest.mark.parametrize(
    ("megabytes", "grew"),
    [
        (lambda passes: 300 + passes, 127),  # each pass keeps something
        (lambda passes: 300 + 400 * (passes > 2), 0),  # the allocator took what it needs
        (lambda passes: 300 + passes // 8, 0),  # next to nothing
        (lambda passes: 0, 0),  # the system does not tell
    ],
)
def test_memory_that_grows_to_the_end_is_told(
    monkeypatch: pytest.MonkeyPatch, megabytes: Callable[[int], int], grew: int
) -> None:
    passes = [2**at for at in range(7)]
    monkeypatch.setattr(after_limit, "resident_bytes", lambda: megabytes(passes.pop(0) if passes else 128) << 20)
    source = """
        import torch
        w = torch.ones(3, requires_grad=True)
        for step in range(100):
            w.grad = None
            (w * 2).sum().backward()
    """
    report = build(recorded(source, max_ops=10))
    assert report.after_limit.grew_bytes == grew << 20
    screen = io.StringIO()
    render(report, Console(file=screen, width=200))
    assert ("still growing" in screen.getvalue()) is bool(grew)


def _written_while_it_runs(patch: pytest.MonkeyPatch, seconds_a_call: float, max_ops: int | None) -> tuple[int, int]:
    """Ops, and calls that were counted, which a file would have of 60 calls at the moment of the last one."""
    now = [100.0]
    for module in (tape, after_limit):
        patch.setattr(module, "perf_counter", lambda: now[0])
    written: list[tuple[int, int]] = []

    def note(recording: Recording) -> None:
        written.append((len(recording.ops), sum(recording.left_out.column("left_out"))))

    recorder = Recorder(is_user=lambda name: name == __file__, max_ops=max_ops, on_flush=note)
    with recorder:
        x = torch.ones(1)
        for _ in range(59):
            now[0] += seconds_a_call
            x = x + 1
        return written[-1]


def test_a_killed_run_of_slow_ops_leaves_all_but_the_last_second(monkeypatch: pytest.MonkeyPatch) -> None:
    ops, _ = _written_while_it_runs(monkeypatch, 0.3, None)
    assert 56 <= ops < 60
    ops, _ = _written_while_it_runs(monkeypatch, 0.0001, None)
    assert ops <= 1  # quick ones wait for each other


def test_a_killed_run_leaves_what_was_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    ops, counted = _written_while_it_runs(monkeypatch, 0.3, 10)
    assert ops == 10 and counted > 20

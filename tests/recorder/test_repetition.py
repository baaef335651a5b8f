"""What a program repeats is counted and taken out of its recording, and what is said of it is the same."""

from __future__ import annotations

import inspect
import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from torch import Tensor, distributed

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Report
from gradscope.recorder import tape
from gradscope.recorder.repetition import alike_periods, forgetting
from gradscope.recording import Recording
from gradscope.recording.file.reader import load
from gradscope.recording.file.writer import RecordingWriter, save
from gradscope.report.run.run_screen import render
from tests.analysis.building import recorded

BATCH = 32
"""Ops between two looks for what came again."""

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
    unused = nn.Linear(2, 2)
    optimizer = torch.optim.Adam([*net.parameters(), *unused.parameters()])
    data = torch.randn(80, 4)
    total = torch.zeros(())
    for step in range(90):
        x = data[step % 10 * 8: step % 10 * 8 + 8]
        optimizer.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        optimizer.step()
        total += loss.detach()
"""
ALTERNATING = """
    import torch
    from torch import nn
    torch.manual_seed(0)
    first, second = nn.Linear(3, 3), nn.Linear(3, 1)
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1) for one in (first, second)]
    shadow = [p.detach().clone() for p in first.parameters()]
    for step in range(400):
        which = step % 2
        x = torch.randn(4, 3)
        out = second(first(x) if which else first(x).detach()).square().sum()
        optimizers[which].zero_grad()
        out.backward()
        optimizers[which].step()
        with torch.no_grad():
            for kept, p in zip(shadow, first.parameters()):
                kept.lerp_(p, 0.01)
        if step % 7 == 0:
            with torch.no_grad():
                score = second(first(x)).mean().item()
"""
CARRIED = """
    import torch
    from torch import nn
    torch.manual_seed(0)
    cell = nn.GRUCell(2, 3)
    optimizer = torch.optim.SGD(cell.parameters(), lr=0.01)
    h = torch.zeros(1, 3)
    for step in range(100):
        optimizer.zero_grad()
        for _ in range(3):
            h = cell(torch.ones(1, 2), h)
        h.sum().backward()
        optimizer.step()
        h = h.detach()
"""
KEPT = """
    import torch
    w = torch.ones(5, requires_grad=True)
    history = []
    recent = []
    for step in range(500):
        loss = (w * step).exp().sum()
        loss.backward()
        if step % 3 == 0:
            history.append(loss)
        recent.append(loss.detach())
        if len(recent) > 4:
            recent.pop(0)
"""
PLAIN = """
    import torch
    x, y = torch.ones(4), torch.full((4,), 0.5)
    for step in range(400):
        x = x * y
        x = x + y
    x.sum()
"""
SAVED_AGAIN = """
    import torch
    w = torch.ones(3, requires_grad=True)
    for step in range(60):
        x = torch.randn(3)
        for _ in range(20):
            h = (w + 1) * x
"""
LAYERS_MADE = """
    import torch
    from torch import nn
    torch.manual_seed(0)
    x = torch.ones(2, 3)
    for step in range(100):
        probe = nn.Linear(3, 1)
        probe(x).sum().backward()
    last = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    last(x).sum().backward()
"""
BATCHES = """
    import torch
    w = torch.ones(4, requires_grad=True)
    batches = torch.randn(20, 4).unbind()
    for epoch in range(80):
        for x in batches:
            loss = (w * x).sum()
            w.grad = None
            loss.square().backward()
"""
GROWING = """
    import torch
    w = torch.ones(3, requires_grad=True)
    total = torch.zeros(())
    for step in range(200):
        total = total + (w * 0.5).sum()
    total.backward()
"""


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for repetition from the first ops on."""
    monkeypatch.setattr(forgetting, "FROM_BYTES", 0)
    monkeypatch.setattr(forgetting, "EVERY", BATCH)
    monkeypatch.setattr(tape, "FLUSH_OPS", BATCH)


def _screen(report: Report) -> str:
    """What is shown of a report, but for the line that says that something was not kept."""
    screen = io.StringIO()
    render(report, Console(file=screen, width=200))
    return re.sub(r"^.*of the ops were like earlier ones.*\n", "", screen.getvalue(), flags=re.MULTILINE)


SEVENTH_KEPT = """
    import torch
    w, x = torch.ones(3, requires_grad=True), torch.randn(3)
    history = []
    for step in range(1_500):
        loss = (w * x).sum()
        loss.backward()
        if step % 7 == 0:
            history.append(loss)
"""
"""Of seven iterations six are alike, and seven are like the seven before."""


@pytest.mark.usefixtures("looks_often")
@pytest.mark.parametrize(
    ("source", "largest"),
    [
        (TRAINING, 0.6),
        (ALTERNATING, 0.8),
        (CARRIED, 0.6),
        (KEPT, 0.8),
        (PLAIN, 0.3),
        (SAVED_AGAIN, 0.8),
        (BATCHES, 0.8),
        (SEVENTH_KEPT, 0.4),
    ],
)
def test_what_is_shown_is_what_it_would_be_with_every_op(source: str, largest: float) -> None:
    whole, part = recorded(source, every_op=True), recorded(source)
    taken = sum(part.alike.column("times"))
    assert len(part.ops) + taken == len(whole.ops) and len(part.ops) < largest * len(whole.ops)
    assert not whole.alike and not whole.info.outcome.message
    assert _screen(build(part)) == _screen(build(whole))


OTHERS_FOR_GOOD = """
    import torch
    w, x = torch.ones(3, requires_grad=True), torch.randn(3)
    for step in range(1_500):
        y = (w * x) if step < 530 else (w + x) if step < 700 else (w - x)
        y.sum().backward()
"""
MORE_NOW_AND_THEN = SEVENTH_KEPT.replace("step % 7 == 0", "step * (step // 7) % 41 == 5").replace(
    "(loss)", "(loss * 2)"
)


@pytest.mark.usefixtures("looks_often")
@pytest.mark.parametrize("source", [MORE_NOW_AND_THEN, OTHERS_FOR_GOOD])
def test_what_is_alike_before_one_that_differs_is_taken_out_as_well(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several iterations of more ops, at no regular distance, lie between one look and the next; or others follow."""
    monkeypatch.setattr(forgetting, "EVERY", 16 * BATCH)
    whole, part = recorded(source, every_op=True), recorded(source)
    assert len(part.ops) < 0.35 * len(whole.ops)
    assert _screen(build(part)) == _screen(build(whole))


OF_OTHER_LENGTH = """
    import torch
    x = torch.ones(2, requires_grad=True)
    for step in range(400):
        for _ in range(10 + step * step % 101 % 17):
            y = x.exp()
        z = x.neg()
"""


def test_a_look_reads_each_table_once_however_many_stretches_it_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop of now ten, now twenty calls of one function is a stretch of its own in each round."""
    recording = recorded(OF_OTHER_LENGTH, every_op=True)
    numbers, read = alike_periods.numbers, list[int]()

    def counted(*args: Any) -> Tensor:
        found = numbers(*args)
        read.append(len(found))
        return found

    monkeypatch.setattr(alike_periods, "numbers", counted)
    none = alike_periods.alike_periods(recording, len(recording.ops), 0, 256)
    assert not none, "no stretch is worth that all rows after it are moved"
    all_of_them = alike_periods.alike_periods(recording, len(recording.ops), 1, 6)
    assert len(all_of_them) == 400
    rows = sum(len(table) for table in recording.tables.values())
    assert sum(read) < 30 * rows


@pytest.mark.usefixtures("looks_often")
def test_layers_that_each_round_makes_anew_are_known_by_their_rows() -> None:
    """Their rows are taken out as well, and what a later layer's rows say is said of it."""
    whole, part = recorded(LAYERS_MADE, every_op=True), recorded(LAYERS_MADE)
    assert len(part.ops) < 0.6 * len(whole.ops) and len(part.modules) < 0.6 * len(whole.modules)
    assert max(row.tensor for row in part.module_tensors) < len(part.tensors)
    assert build(part).modules[-4:] == build(whole).modules[-4:]


LATE = """
    import torch
    from torch import nn
    torch.manual_seed(0)
    model, other = nn.Linear(3, 1), nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.ones(2, 3)
    for step in range(205):
        optimizer.zero_grad()
        out = model(x)
        if step == 101:
            out = out + other(x)
        if step == 131:
            out = model(torch.ones(5, 3))
        loss = out.sum()
        if step == 153:
            loss = loss * 0 / 0
        loss.backward()
        optimizer.step()
        if step == 171:
            try:
                x @ torch.ones(4)
            except RuntimeError:
                pass
"""
REFUSED = """
    import torch
    w = torch.ones(3, requires_grad=True)
    for step in range(205):
        y = w.exp()
        if step == 153:
            y.add_(1)
        y.sum().backward()
"""


@pytest.mark.usefixtures("looks_often")
def test_what_comes_late_is_there_in_full() -> None:
    whole, part = recorded(LATE, every_op=True), recorded(LATE)
    assert len(part.ops) < 0.6 * len(whole.ops)
    screens = [_screen(build(one)) for one in (part, whole)]
    assert screens[0] == screens[1]
    for told in ("the loss of backward pass 154 is NaN", "size mismatch", "out = out + other(x)"):
        assert told in screens[0]


@pytest.mark.usefixtures("looks_often")
def test_a_late_error_is_explained_as_ever() -> None:
    whole, part = recorded(REFUSED, every_op=True), recorded(REFUSED)
    assert part.alike and _screen(build(part)) == _screen(build(whole))
    assert "Tensor.add_ wrote into y" in _screen(build(part))


@pytest.mark.usefixtures("looks_often")
def test_a_graph_that_goes_on_and_on_is_kept_whole() -> None:
    assert not recorded(GROWING).alike


@pytest.mark.usefixtures("looks_often")
def test_a_file_that_grows_with_the_run_has_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "FIRST_OPS", BATCH)
    path = tmp_path / "run.gradscope"
    writer = RecordingWriter(path)
    recording = recorded(TRAINING, on_flush=writer.append)
    assert sum(recording.alike.column("times")) > 100
    so_far = load(path)
    assert 0 <= len(recording.ops) - len(so_far.ops) < 3 * BATCH
    writer.close(recording)
    save(recording, tmp_path / "at_once.gradscope")
    assert _rows(load(path)) == _rows(load(tmp_path / "at_once.gradscope")) == _rows(recording)


def _rows(recording: Recording) -> dict[str, list[tuple[int, ...]]]:
    return {name: list(table) for name, table in recording.tables.items()}


@pytest.mark.usefixtures("looks_often")
@pytest.mark.parametrize("setting", ["values", "nan", "fingerprints"])
def test_where_values_are_kept_every_op_is(setting: str) -> None:
    assert not recorded(KEPT, **{setting: True}).alike


@pytest.mark.skipif(
    "handle_torch_function" not in inspect.unwrap(distributed.all_reduce).__code__.co_names,
    reason="this torch hands collectives to no function mode",
)
@pytest.mark.usefixtures("looks_often")
def test_what_other_processes_must_call_as_well_is_kept_in_its_order(tmp_path: Path) -> None:
    source = f"""
        import torch
        import torch.distributed as dist
        dist.init_process_group("gloo", init_method="file://{tmp_path}/store", rank=0, world_size=1)
        for step in range(60):
            total = torch.ones(2) * 2
            dist.all_reduce(total)
        dist.destroy_process_group()
    """
    assert not recorded(source).alike
    assert recorded(source.replace("dist.all_reduce(total)", "total + 1")).alike


@pytest.mark.usefixtures("looks_often")
def test_while_another_thread_is_recorded_every_op_is_kept() -> None:
    source = PLAIN.replace("import torch", "import threading, torch").replace(
        "for step", "ends = threading.Event(); other = threading.Thread(target=ends.wait); other.start()\n    for step"
    )
    assert not recorded(f"{source.rstrip()}\n    ends.set(); other.join()\n").alike


def test_a_short_program_is_kept_whole() -> None:
    assert not recorded(TRAINING).alike


@pytest.mark.usefixtures("looks_often")
@pytest.mark.parametrize(("source", "steps", "more"), [(PLAIN, "400", 200), (SEVENTH_KEPT, "1_500", 800)])
def test_a_long_run_takes_no_more_than_a_short_one(source: str, steps: str, more: int) -> None:
    counts = [len(recorded(source.replace(steps, longer)).ops) for longer in ("1_500", "8_000")]
    assert counts[1] < counts[0] + more

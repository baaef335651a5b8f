"""Bytes and shapes: each byte counted once, on every screen; shapes as they were when the line ran."""

from io import StringIO

import pytest
from rich.console import Console

from gradscope.analysis.report_builder import build
from gradscope.report.run.run_screen import render
from tests.analysis.building import recorded

THREADS = """
import threading
import torch
w, v = torch.ones(1000, requires_grad=True), torch.ones(1000, requires_grad=True)
begun = threading.Event(), threading.Event()
def first():
    loss = (w * 2).sum()
    loss.register_hook(lambda g: (begun[0].set(), begun[1].wait(5))[0] and None)
    loss.backward()
def second():
    begun[0].wait(5)
    (v * 2).sum().backward()
    begun[1].set()
threads = [threading.Thread(target=first), threading.Thread(target=second)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_a_gradient_that_two_passes_met_is_counted_once() -> None:
    report = build(recorded(THREADS))
    assert report.memory.gradient_bytes == 8000
    assert sum(one.allocated_bytes for one in report.backwards) == 8000


def test_a_gradient_has_the_shape_that_its_leaf_had_in_the_pass() -> None:
    source = "import torch\np = torch.zeros(2, requires_grad=True)\np.data = torch.zeros(5)\n(p * 2).sum().backward()\n"
    report = build(recorded(source + "p.data = torch.zeros(7)\n"))
    assert [row.shape for row in report.backwards[0].gradients] == ["(5,)"]
    assert [(row.line, row.shape) for row in report.lines if row.name == "p"] == [(2, "(2,)"), (3, "(5,)"), (5, "(7,)")]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_bytes_of_a_row_without_a_tensor_are_on_every_screen(width: int) -> None:
    report = build(recorded("import torch\nw = torch.ones(500, requires_grad=True)\nw.sum().backward()\n"))
    console = Console(width=width, file=StringIO(), force_terminal=False)
    render(report, console)
    lines = console.file.getvalue().partition("Gradients")[0]  # type: ignore[attr-defined]
    assert "2.0 KiB" in lines.partition("w.sum().backward()")[2]


LOOP = """
import torch
w = torch.ones(100, requires_grad=True)
kept = []
for step in range(20):
    y = (w * step).exp()
    KEEP
"""


@pytest.mark.parametrize(
    ("keep", "words"),
    [("kept.append(y)", "every run leaves"), ("if step % 4:\n        kept.append(y)", "most runs leave"), ("pass", "")],
)
def test_how_many_runs_leave_memory_behind(keep: str, words: str) -> None:
    report = build(recorded(LOOP.replace("KEEP", keep)))
    found = [answer.text for answer in report.answers if answer.code == "memory-kept-by-graph"]
    assert len(found) == bool(words)
    assert all(words in text for text in found)


def test_one_run_that_keeps_many_blocks_is_no_loop() -> None:
    source = "import torch\nfrom torch import nn\nnet = nn.Sequential(*[nn.Linear(4, 4) for _ in range(12)])\n"
    report = build(recorded(source + "y = net(torch.ones(4))\n"))
    assert [answer.code for answer in report.answers] == []


def test_a_gradient_is_allocated_by_the_pass_and_not_by_the_line_that_reads_it() -> None:
    source = (
        "import torch\nw = torch.ones(2, requires_grad=True)\n(w * 1).sum().backward()\ng = w.grad.detach().clone()\n"
    )
    rows = build(recorded(source)).lines
    assert {row.line: row.allocated_bytes for row in rows} == {2: 8, 3: 8 + 4 + 8, 4: 8}


def test_what_is_entered_at_its_first_write_is_at_version_0_before() -> None:
    source = "import torch\nn = torch.from_numpy(torch.ones(4).numpy())\nn[0] = 7\n"
    rows = [row for row in build(recorded(source)).lines if row.name == "n"]
    assert [(row.line, row.version_before, row.version) for row in rows] == [(2, None, 0), (3, 0, 1)]

"""The modules that were at work, as a tree: what each keeps, has, and was given."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import ModuleRow
from gradscope.analysis.view import RunView
from gradscope.recorder.calls.module_looks import AFTER_NEW
from gradscope.report.run.module_rows import runs_whole_models
from gradscope.report.run.run_screen import render
from tests.analysis.building import recorded

NET = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.drop = nn.Dropout(0.5)
    def forward(self, x):
        h = self.fc(x)
        return self.drop(h)

class Net(nn.Module):
    def __init__(self, count=3):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(count))
        self.unused = nn.Linear(4, 4)
    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x

net = Net()
"""
RUN = """
for _ in range({steps}):
    loss = net(torch.ones(2, 4)).sum()
    loss.backward()
"""


def tree(source: str) -> dict[str, ModuleRow]:
    """The rows by path."""
    found: dict[str, ModuleRow] = {}
    path: list[str] = []
    for row in build(recorded(source)).modules:
        path[row.depth :] = [row.name]
        found[".".join(path)] = row
    return found


def test_each_module_has_what_is_its_own_and_of_all_below_it() -> None:
    rows = tree(NET + RUN.format(steps=1))
    assert list(rows) == [
        "net", "net.blocks", "net.blocks.0-2", "net.blocks.0-2.fc", "net.blocks.0-2.drop", "net.unused",
    ]  # fmt: skip
    net, fc, drop, unused = (rows[name] for name in ("net", "net.blocks.0-2.fc", "net.blocks.0-2.drop", "net.unused"))
    assert (net.kind, net.trainable, net.frozen) == ("Net", 80, 0)
    assert (net.with_gradient, net.trainable_tensors) == (6, 8)
    assert (unused.with_gradient, unused.calls, unused.places) == (0, 0, ())
    assert (fc.modules, fc.calls, drop.calls) == (3, 3, 3)
    assert [place.line for place in net.places] == [26]
    assert [place.line for place in fc.places] == [10]
    assert net.saved_bytes == fc.saved_bytes + drop.saved_bytes > 0
    assert net.allocated_bytes == fc.allocated_bytes + drop.allocated_bytes > 0
    assert net.parameter_bytes == 4 * 80
    assert net.gradient_bytes == 4 * 60


def test_what_was_saved_is_that_of_one_pass() -> None:
    once, often = (tree(NET + RUN.format(steps=steps))["net"] for steps in (1, 40))
    assert (once.calls, once.saved_bytes) == (often.calls, often.saved_bytes)


def test_siblings_are_one_row_only_where_they_are_treated_alike() -> None:
    rows = tree(NET + "for p in net.blocks[1].parameters(): p.requires_grad_(False)\n" + RUN.format(steps=1))
    assert [name for name in rows if name.count(".") == 2] == ["net.blocks.0", "net.blocks.1", "net.blocks.2"]
    assert (rows["net.blocks.1"].trainable, rows["net.blocks.1"].frozen) == (0, 20)


def test_a_wrapper_is_one_with_what_it_stands_for() -> None:
    wrapper = """
class DataParallel(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module
    def forward(self, x):
        return self.module(x)
DataParallel.__module__ = "torch.nn.parallel.data_parallel"
"""
    rows = tree(NET + wrapper + "net = DataParallel(net)\n" + RUN.format(steps=1))
    assert rows["net"].kind == "DataParallel(Net)"
    assert "net.blocks.0-2.fc" in rows


def test_a_module_that_turns_out_to_be_part_of_another_stands_there() -> None:
    rows = tree(NET + "net.blocks[0](torch.ones(2, 4)).sum()\n" + RUN.format(steps=1))
    assert [name for name in rows if "." not in name] == ["net"]


def test_without_a_module_there_is_no_tree() -> None:
    report = build(recorded("import torch\ntorch.ones(2, requires_grad=True).sum().backward()"))
    assert report.modules == ()
    for view in (RunView(), RunView(by_module=True)):
        stream = io.StringIO()
        render(report, Console(file=stream, width=80, color_system=None), view)
        assert "Modules" not in stream.getvalue()


@pytest.mark.parametrize(
    "model", ["nn.Transformer(8, 2, 2, 2, 16, batch_first=True)", "nn.Sequential(nn.Linear(8, 8))"]
)
def test_the_tree_is_shown_where_a_line_runs_a_whole_model(model: str) -> None:
    source = f"import torch\nfrom torch import nn\nmodel = {model}\nx = torch.ones(1, 3, 8)\n"
    call = "model(x, x)" if "Transformer" in model else "model(x)"
    assert runs_whole_models(build(recorded(source + f"{call}.sum().backward()")).modules) == ("Transformer" in model)
    assert not runs_whole_models(build(recorded(NET + RUN.format(steps=3))).modules)


def test_by_module_stands_in_the_place_of_the_lines() -> None:
    stream = io.StringIO()
    report = build(recorded(NET + RUN.format(steps=1)))
    render(report, Console(file=stream, width=80, color_system=None), RunView(by_module=True))
    screen = stream.getvalue()
    assert "Modules" in screen and "Lines" not in screen
    assert "    0-2 ×3" in screen
    assert max(map(len, screen.splitlines())) <= 80


def test_once_nothing_is_new_calls_are_not_looked_at() -> None:
    recording = recorded(NET + RUN.format(steps=60))
    looked = len(recording.module_ops)
    assert 6 <= looked <= 6 + AFTER_NEW * 2
    assert looked < 60 * 6 / 2


def test_what_a_lazy_module_is_given_is_counted_and_cuts_nothing() -> None:
    report = build(
        recorded("""
        import torch
        from torch import nn
        net = nn.Sequential(nn.LazyLinear(3), nn.ReLU(), nn.LazyLinear(2))
        h = net(torch.randn(5, 4))
        h.sum().backward()
        late = (net[0].weight.data * 2).sum()
        """)
    )
    assert {row.executions for row in report.lines if row.line == 4} == {1}
    assert {row.name: row.shape for row in report.backwards[0].gradients if "weight" in row.name} == {
        "net.0.weight": "(3, 4)",
        "net.2.weight": "(2, 3)",
    }
    assert [cut.place.line for cut in report.cuts] == [6]

"""What runs inside ``vmap`` has its nodes at its own lines, and is no cut where autograd tracks what a batch wraps."""

from gradscope.analysis.index import Index
from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = """
import torch
from torch.func import vmap
w, x = torch.ones(3, requires_grad=True), torch.randn(4, 3)
def f(row):
    h = row * w
    s = h.exp()
    return s.sum()
"""


def test_nodes_are_where_the_function_makes_them() -> None:
    index = Index(recorded(HEAD + "loss = vmap(f)(x).sum()\nloss.backward()\n"))
    nodes = index.recording.nodes
    columns = (nodes.column("op"), nodes.column("name"))
    lines = {index.recording.text(name): index.op_line(op) for op, name in zip(*columns, strict=True)}
    assert (lines["MulBackward0"], lines["ExpBackward0"]) == (5, 6)
    report = build(index.recording)
    assert report.summary.cuts == 0
    assert sum(line.saved_bytes for line in report.memory.lines if line.place.line == 8) == 0


def test_of_what_is_no_batch_a_cut_is_one() -> None:
    report = build(recorded(HEAD + "cut = (w * torch.eye(3).to_sparse()).detach()\nout = vmap(lambda r: r * 2)(x)\n"))
    assert report.summary.cuts == 1
    assert [row.requires_grad for row in report.lines if row.line == 9 and row.name == "out"] == [False]

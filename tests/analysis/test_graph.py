"""The graph as a tree: shared nodes once, chains folded, any depth."""

from gradscope.analysis.facts.graphs.graph_trees import ROWS_SHOWN
from gradscope.analysis.report_builder import build
from tests.analysis.building import Builder, recorded

DEEP = 200_000


def chain(length: int) -> Builder:
    builder = Builder()
    leaf = builder.op(1, "torch.ones", requires_grad=True)
    node = builder.node(0, "AccumulateGrad", variable=leaf)
    tensor = leaf
    for op in range(1, length):
        node = builder.node(op, following=(node,))
        tensor = builder.op(2, inputs=(tensor,), requires_grad=True, node=node)
    builder.bind("x", leaf)
    builder.bind("y", tensor)
    return builder


def test_a_chain_of_any_depth_is_folded() -> None:
    (graph,) = build(chain(DEEP).recording).graphs
    assert (graph.nodes, graph.depth, graph.leaves) == (DEEP, DEEP, ("x",))
    assert len(graph.rows) < 10
    assert sum(row.folded or 1 for row in graph.rows) == DEEP


def test_a_ladder_is_shown_up_to_a_limit_and_every_node_counted() -> None:
    builder = Builder()
    leaf = builder.op(1, "torch.ones", requires_grad=True)
    below = builder.node(0, "AccumulateGrad", variable=leaf)
    tensor = leaf
    for op in range(1, 5_000):
        left = builder.node(op, "ExpBackward0", following=(below,))
        right = builder.node(op, "SinBackward0", following=(below,))
        below = builder.node(op, "AddBackward0", following=(left, right))
        tensor = builder.op(2, inputs=(tensor,), requires_grad=True, node=below)
    builder.bind("y", tensor)
    (graph,) = build(builder.recording).graphs
    assert len(graph.rows) <= ROWS_SHOWN + 1
    assert sum(row.folded or not row.repeated for row in graph.rows) == graph.nodes


def test_a_shared_node_is_shown_once() -> None:
    source = "import torch\nx = torch.ones(2, requires_grad=True)\ny = x.exp()\nz = (y * y.sin()).sum()\nz.backward()\n"
    (graph,) = build(recorded(source)).graphs
    exp = [row for row in graph.rows if row.name == "ExpBackward0"]
    assert [row.repeated for row in exp] == [False, True]
    assert [row.tensor for row in exp] == ["y", "y"]
    assert graph.leaves == ("x",)
    assert graph.line == 5


def test_rows_point_to_their_parents() -> None:
    (graph,) = build(recorded("import torch\nx = torch.ones(2, requires_grad=True)\ny = (x * 2).exp().sum()\n")).graphs
    assert [(row.parent, row.depth) for row in graph.rows] == [(-1, 0), (0, 1), (1, 2), (2, 3)]
    assert graph.rows[-1].tensor == "x"
    assert graph.rows[-1].is_leaf


def test_the_graph_is_that_of_the_last_write() -> None:
    source = "import torch\na = torch.ones(2, requires_grad=True)\nb = a * 2\nb.add_(1)\nb.exp_()\n"
    (graph,) = build(recorded(source)).graphs
    assert [row.name for row in graph.rows] == ["ExpBackward0", "AddBackward0", "MulBackward0", "AccumulateGrad"]

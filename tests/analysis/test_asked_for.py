"""A pass that is asked for some gradients only walks, and uses up, what leads to these."""

import pytest

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = """
import torch
from torch import nn
a, b = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
left, right = a.exp(), b.exp()
loss = (left * right).sum()
"""


@pytest.mark.parametrize(
    ("call", "left", "right"),
    [
        ("loss.backward(inputs=[b])", False, True),
        ("loss.backward(inputs=[a, b])", True, True),
        ("loss.backward()", True, True),
        ("torch.autograd.grad(loss, a)", True, False),
        ("torch.autograd.grad(loss, left)", False, False),
        ("torch.autograd.grad([loss, right.sum()], [b])", False, True),
        ("loss.backward(inputs=[torch.ones(3, requires_grad=True)])", False, False),
        ("loss.backward(torch.tensor(2.0, requires_grad=True))", True, True),
    ],
)
def test_only_what_leads_there_is_used_up(call: str, left: bool, right: bool) -> None:
    again = []
    for one in ("left", "right"):
        names: dict[str, object] = {}
        exec(
            f"{HEAD}{call}\ntry:\n    {one}.sum().backward()\n    raised = False\nexcept RuntimeError: raised = True",
            names,
        )
        again.append(names["raised"])
    assert again == [left, right]
    index = Index(recorded(HEAD + call))
    used_up = Passes(index).used_up_at
    ops = [op for op in range(index.op_count) if index.func(op) == "Tensor.exp"]
    nodes = [index.recording.tensors.column("node")[index.tensors_made(op)[0]] for op in ops]
    assert [used_up[node] >= 0 for node in nodes] == [left, right]


def test_what_such_a_pass_did_not_walk_is_not_said_to_be_used_up() -> None:
    source = """
    import torch
    from torch import nn
    x = torch.ones(2, 3)
    first, last = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)), nn.Linear(3, 3)
    outputs = []
    for step in range(5):
        h = x.detach()
        h = first[0](h)
        h = first[1](h)
        h = first[2](h)
        h = h + last(x)
        h.sum().backward(inputs=list(last.parameters()))
        outputs.append(h)
    """
    (text,) = [one.text for one in build(recorded(source)).answers if one.code == "graph-kept-after-pass"]
    assert "outputs keeps 5 results" in text

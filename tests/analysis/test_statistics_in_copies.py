"""Batch norms whose running statistics are learned in copies of the buffers, and lost with them."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """\
import copy
import torch
import torch.nn.functional as F
from torch.func import functional_call

net = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))
{prepared}
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
x, y = torch.randn(30, 5), torch.randint(0, 2, (30,))
for step in range(8):
    params = dict(net.named_parameters())
    {buffers}
    out = functional_call(net, (params, buffers), (x,))
    loss = F.cross_entropy(out, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    {after}
{evaluate}
with torch.no_grad():
    print(net(x).argmax(1))
"""


def found(
    buffers: str, *, prepared: str = "pass", after: str = "pass", evaluate: str = "net.eval()"
) -> tuple[list[int], int]:
    source = SOURCE.format(buffers=buffers, prepared=prepared, after=after, evaluate=evaluate)
    answers = build(recorded(source)).answers
    lines = [cause.line for one in answers if one.code == "average-without-statistics" for cause in one.causes]
    return lines, line_of(source, buffers)


CLONED = "buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}"


@pytest.mark.parametrize(
    "buffers",
    [
        CLONED,
        "buffers = {name: buffer.detach().clone() for name, buffer in net.named_buffers()}",
        "buffers = copy.deepcopy(dict(net.named_buffers()))",
        "buffers = {name: torch.clone(buffer) for name, buffer in net.state_dict().items() if 'run' in name}",
    ],
)
def test_the_line_that_copies_the_buffers_is_named(buffers: str):
    lines, expected = found(buffers)
    assert lines == [expected]


@pytest.mark.parametrize(
    ("buffers", "changes"),
    [
        ("buffers = dict(net.named_buffers())", {}),
        (CLONED, {"after": "net.load_state_dict(buffers, strict=False)"}),
        (CLONED, {"after": "[own.copy_(buffers[name]) for name, own in net.named_buffers()]"}),
        (CLONED, {"evaluate": "net.train()"}),
        (CLONED, {"prepared": "net(torch.randn(30, 5))"}),
        (CLONED, {"prepared": "net.load_state_dict(copy.deepcopy(net).state_dict())"}),
        (CLONED, {"prepared": "net.eval()"}),
    ],
)
def test_buffers_that_are_handed_over_or_written_back_and_norms_that_have_learned_are_fine(
    buffers: str, changes: dict[str, str]
):
    assert found(buffers, **changes)[0] == []

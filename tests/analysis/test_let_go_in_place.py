"""detach_() of what was kept elsewhere: the graph is gone there as well, and so is the way to the parameters."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
cell, out = torch.nn.GRUCell(3, 4), torch.nn.Linear(4, 1)
params = [*cell.parameters(), *out.parameters()]
opt = torch.optim.SGD(params, lr=0.1)
"""


def unreached(source: str) -> list[Answer]:
    return [one for one in build(recorded(HEAD + source)).answers if one.code == "leaf-unreached"]


@pytest.mark.parametrize(
    "keep",
    [
        "kept.append(h)\n        h.detach_()  # let go",
        "h.detach_()  # let go\n        kept.append(h)",
        "kept.append(h)\n        h = torch.Tensor.detach_(h)  # let go",
        "kept = [*kept, h]\n        for one in (h,):\n            one.detach_()  # let go",
    ],
)
def test_the_line_that_lets_go_is_the_cut(keep: str) -> None:
    source = f"""
for step in range(3):
    h, kept = torch.zeros(2, 4), []
    for t in range(3):
        h = cell(torch.ones(2, 3), h)
        {keep}
    loss = out(torch.stack(kept)).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
"""
    (answer,) = unreached(source)
    assert answer.severity == "warning"
    assert [cause.line for cause in answer.causes] == [line_of(HEAD + source, "# let go")]
    assert "by Tensor.detach_" in answer.text


@pytest.mark.parametrize(
    "rounds",
    [
        "h = cell(torch.ones(2, 3), h)\n    loss = out(h).sum()\n    loss.backward()\n    h.detach_()",
        "h.detach_()\n    h = cell(torch.ones(2, 3), h)\n    (out(h).sum() + h.sum()).backward()",
        "h = cell(torch.ones(2, 3), h)\n    y = out(h)\n    h.detach_()\n    (y.sum() + out(h).sum()).backward()",
    ],
)
def test_a_state_that_is_cut_off_between_passes_or_used_before_is_silent(rounds: str) -> None:
    assert not unreached(
        f"h = torch.zeros(2, 4)\nfor step in range(3):\n    opt.zero_grad()\n    {rounds}\n    opt.step()\n"
    )

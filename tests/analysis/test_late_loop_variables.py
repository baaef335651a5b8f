"""Functions checkpointed in a loop that read its variable late: said where backward comes after the loop."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.frames.called_by_torch.late_loop_variables import late_variables
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
blocks = nn.ModuleList([nn.Linear(3, 3) for _ in range(3)])
def forward(h):
    for i, block in enumerate(blocks):
        {}
    return h
for step in range(2):
    forward(torch.rand(4, 3, requires_grad=True)).sum().backward()
"""


def found(source: str) -> list[int]:
    answers = [one for one in build(recorded(source)).answers if one.code == "checkpoint-reads-late"]
    return [cause.line for answer in answers for cause in answer.causes]


@pytest.mark.parametrize(
    "body",
    [
        "h = checkpoint(lambda x: block(x), h, use_reentrant=False)",
        "h = checkpoint(lambda x: blocks[i](x), h, use_reentrant=True)",
        "layer = blocks[i]\ndef run(x): return layer(x)\nh = checkpoint(run, h, use_reentrant=False)",
    ],
)
def test_each_runs_again_with_the_last(body: str) -> None:
    source = PROGRAM.format(body.replace("\n", "\n        "))
    assert found(source) == [line_of(source, "= checkpoint(")]


@pytest.mark.parametrize(
    "body",
    [
        "h = checkpoint(block, h, use_reentrant=False)",
        "h = checkpoint(lambda x, block=block: block(x), h, use_reentrant=False)",
        "h = checkpoint(lambda x: x.tanh(), h, use_reentrant=False)",
        "h = checkpoint(lambda x: block(x), h, use_reentrant=False)\nh.sum().backward()\nh = h.detach()",
    ],
)
def test_it_is_bound_or_runs_again_in_its_iteration(body: str) -> None:
    assert found(PROGRAM.format(body.replace("\n", "\n        "))) == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("for b in bs:\n    x = checkpoint(lambda h: b(h), x)", ["b"]),
        ("def f(b):\n    return checkpoint(lambda h: b(h), x)\nfor b in bs:\n    f(b)", []),
        ("for b in bs:\n    def f(b):\n        return checkpoint(lambda h: b(h), x)\n    f(b)", []),
        ("for b in bs:\n    x = checkpoint(partial(run, b), x)", []),
    ],
)
def test_what_the_text_tells(text: str, names: list[str]) -> None:
    assert [one.name for one in late_variables(text)] == names

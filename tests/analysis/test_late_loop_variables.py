"""Functions checkpointed in a loop that read its variable late: said where backward comes after the loop."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.frames.called_by_torch.late_loop_variables import late_variables
from tests.analysis.building import line_of, recorded

PROGRAM = """
from functools import partial
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
        "skip = h\nh = checkpoint(lambda x, block=block: block(x) + skip, h, use_reentrant=False)",
        "def run(x): return block(x)\nh = checkpoint(partial(run), h, use_reentrant=False)",
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
        "n = h.shape[-1]\nh = checkpoint(lambda x, block=block: block(x) / n, h, use_reentrant=False)",
        "part = 2.0\nh = checkpoint(lambda x, block=block: block(x) / part / len(h), h, use_reentrant=False)",
        "h = checkpoint(lambda x: block(x), h, use_reentrant=False)\nh.sum().backward()\nh = h.detach()",
    ],
)
def test_it_is_bound_or_runs_again_in_its_iteration(body: str) -> None:
    assert found(PROGRAM.format(body.replace("\n", "\n        "))) == []


HANDED = """
from functools import partial
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint as kept
class Net(nn.Module):
    def __init__(self, saves=True):
        super().__init__()
        self.blocks, self.saves = nn.ModuleList([nn.Linear(3, 3) for _ in range(3)]), saves
    def run(self, function, *given):
        if not self.saves:
            return function(*given)
        return kept(function, *given, use_reentrant=False)
    def forward(self, h):
        for block in self.blocks:
            {}  # handed
        return h
def run_it(h, run):
    return kept(lambda x: run(x).exp(), h, use_reentrant=False)
def through(h, run):
    return run_it(h, run)
run_again = partial(kept, use_reentrant=False)
net, plain = Net(), Net(saves=False)
for step in range(2):
    net(torch.rand(4, 3, requires_grad=True)).sum().backward()
    plain(torch.rand(4, 3, requires_grad=True)).sum().backward()
"""


@pytest.mark.parametrize(
    "body",
    [
        "h = self.run(BLOCK, h)",
        "h = self.run(function=BLOCK) if h is None else run_it(h, run=BLOCK)",
        "h = through(h, BLOCK)",
        "h = run_again(BLOCK, h)",
        "h = kept(BLOCK, h, use_reentrant=False)",
    ],
)
def test_it_is_handed_to_checkpoint_by_another_function(body: str) -> None:
    source = HANDED.format(body.replace("BLOCK", "lambda x: block(x)"))
    assert set(found(source)) == {line_of(source, "# handed")}
    assert found(HANDED.format(body.replace("BLOCK", "lambda x, block=block: block(x)"))) == []
    assert found(HANDED.format(body.replace("BLOCK", "block"))) == []


def test_a_function_that_would_hand_it_to_checkpoint_and_does_not() -> None:
    source = HANDED.format("h = self.run(lambda x: block(x), h)").replace(
        "net, plain = Net()", "net, plain = Net(False)"
    )
    assert found(source) == []


def test_the_variable_of_a_comprehension() -> None:
    text = "heads = nn.ModuleList([nn.Linear(3, 3) for _ in range(3)])\nx = torch.rand(4, 3, requires_grad=True)\n"
    ran = "parts = [checkpoint(lambda h{}: head(h).exp(), x, use_reentrant=False) for head in heads]\n"
    ran += "sum(parts).sum().backward()"
    head = PROGRAM.partition("blocks =")[0] + text
    assert found(head + ran.format("")) == [line_of(head + ran.format(""), "parts =")]
    assert found(head + ran.format(", head=head")) == []


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

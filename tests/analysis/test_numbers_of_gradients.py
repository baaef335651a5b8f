"""Gradients of an accumulation that are thrown away, and of which a log took a norm: a number is no use of them."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
torch.manual_seed(0)
net = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
every, count, norms, total = 3, 0, [], torch.zeros(())
class Engine:
    count = 0
    def backward(self, loss):
        self.count += 1
        loss.backward()
        norms.append(norm())
    def step(self):
        if self.count % every == 0:
            optimizer.step()
engine = Engine()
def norm():
    return torch.stack([p.grad.norm() for p in net.parameters()]).norm().item()
"""
LOOP = """
for i in range(9):
    (net(torch.rand(2, 3)).pow(2).mean() / 3).backward()
    norms.append(norm())  # log
    if (i + 1) % every == 0:
        optimizer.step()
    optimizer.zero_grad()  # clears
"""
INNER = """
for i in range(4):
    for k in range(every):
        optimizer.zero_grad()  # clears
        (net(torch.rand(2, 3)).pow(2).mean() / every).backward()
        norms.append(norm())  # log
    optimizer.step()
"""
ENGINE = """
for i in range(9):
    net.zero_grad(set_to_none=False)  # clears
    engine.backward(net(torch.rand(2, 3)).pow(2).mean())
    engine.step()
"""
LOG = "norms.append(norm())  # log"


def told(source: str) -> list[tuple[str, list[int]]]:
    answers = build(recorded(HEAD + source)).answers
    return [(one.text, [cause.line for cause in one.causes]) for one in answers if one.code == "accumulation-cleared"]


@pytest.mark.parametrize(
    "source",
    [
        LOOP,
        INNER,
        ENGINE,
        LOOP.replace(LOG, "norms.append(torch.nn.utils.clip_grad_norm_(net.parameters(), 1e9))"),
        LOOP.replace(LOG, "total += sum(p.grad.detach().pow(2).sum() for p in net.parameters())"),
        LOOP.replace(LOG, "print(max(p.grad.abs().max() for p in net.parameters()))"),
        LOOP.replace(LOG, "if torch.isnan(net.weight.grad).any(): print('not a number')"),
        LOOP.replace("if (i + 1) % every == 0:", "count += 1\n    if count == every:\n        count = 0"),
        LOOP.replace("    if (i", "    ready = (i").replace("== 0:", "== 0\n    if ready:"),
    ],
    ids=["loop", "inner loop", "engine", "clip", "a sum", "largest", "nan", "count", "named"],
)
def test_a_norm_is_no_use(source: str) -> None:
    ((text, lines),) = told(source)
    assert lines == [line_of(HEAD + source, "# clears")]
    assert "nothing but numbers had been taken of it" in text


@pytest.mark.parametrize(
    "source",
    [
        LOOP.replace(LOG, "kept = [p.grad.clone() * 0.3 for p in net.parameters()]"),
        LOOP.replace(LOG, "norms.append(net.weight.grad.tolist())"),
        LOOP.replace(LOG, "scale = net.weight.grad.norm()\n    with torch.no_grad(): net.bias.mul_(scale)"),
        LOOP.replace("optimizer.zero_grad()", "if (i + 1) % every == 0: optimizer.zero_grad()"),
        # Several gradients are only measured, and the last pass is for the step: nothing counts them up.
        INNER.replace(" / every", ""),
        # A bad batch is skipped.
        LOOP.replace("optimizer.zero_grad()", "if norms[-1] < 0: optimizer.zero_grad()"),
        # What is looked at belongs to every third round as a whole.
        """
def measured():
    optimizer.zero_grad()
    net(torch.rand(2, 3)).pow(2).mean().backward()
    return norm()
for i in range(9):
    if i % every == 0:
        print(measured(), measured())
        optimizer.step()
""",
    ],
    ids=["kept", "all values", "goes on", "at the step", "measured", "skipped", "measured in the round"],
)
def test_what_is_used_or_only_measured_is_fine(source: str) -> None:
    assert told(source) == []

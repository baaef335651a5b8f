"""Functions that write what they are given, whose callers read it beside the result: the line that writes."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HEAD = """import torch
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
net = nn.Linear(3, 3)
data = torch.randn(8, 3)
def train(x, y):
    F.mse_loss(net(x), net(y)).backward()
"""


def found(source: str) -> list[Answer]:
    return [answer for answer in build(recorded(source)).answers if answer.code == "argument-written"]


WRITTEN = {
    "two views": """
def jitter(batch, scale):
    batch += scale * torch.randn(batch.shape)  # it
    batch *= 2
    return batch
def main():
    for x in data.split(4):
        first = jitter(x, 0.1)
        second = jitter(x, 0.2)
        train(first, second)
main()
""",
    "in one call": """
def drop(x):
    return x.mul_(torch.rand(x.shape) > 0.5)  # it
for x in data.split(4):
    train(drop(x), drop(x))
""",
    "the original as the target": """
def corrupt(x):
    x[:, 0] = torch.randn(len(x))  # it
    return x
for x in data.split(4):
    noisy = corrupt(x)
    recon = net(noisy)
    loss = F.mse_loss(recon, x)
    loss.backward()
""",
    "a result that is another tensor": """
def corrupt(x):
    x.add_(torch.randn_like(x))  # it
    return x.clamp(-1, 1)
criterion = nn.MSELoss()
for x in data.split(4):
    noisy = corrupt(x)
    criterion(net(noisy), x).backward()
""",
    "an object that is called": """
class Noise:
    def __call__(self, x):
        x.add_(torch.randn_like(x))  # it
        return x
def main():
    augment = Noise()
    for x in data.split(4):
        train(augment(x), x)
main()
""",
}


@pytest.mark.parametrize("case", WRITTEN)
def test_the_line_that_writes_is_the_cause(case: str) -> None:
    source = HEAD + WRITTEN[case]
    (answer,) = found(source)
    line = line_of(source, "# it")
    assert answer.severity == "warning"
    assert [cause.line for cause in answer.causes] == [line]
    assert answer.text.startswith(f"Line {line}: ")
    assert answer.text.lower().count("line ") == 1


HEALTHY = {
    "a new tensor": """
def jitter(x):
    x = x + torch.randn_like(x)
    x *= 2
    return x
for x in data.split(4):
    a = jitter(x)
    b = jitter(x)
    train(a, b)
    train(a, x)
""",
    "copies": """
def jitter(x):
    x += torch.randn_like(x)
    return x
for x in data.split(4):
    a = jitter(x.clone())
    b = jitter(x.clone())
    train(a, b)
    F.mse_loss(net(a), x).backward()
""",
    "the same name again": """
def jitter(x):
    x += torch.randn_like(x)
    return x
for x in data.split(4):
    x = jitter(x)
    train(x, x)
    y = net(x)
    F.mse_loss(y, x).backward()
""",
    "a name that says so": """
def jitter_(x):
    x += torch.randn_like(x)
    return x
for x in data.split(4):
    a = jitter_(x)
    train(a, x)
""",
    "two batches and one buffer": """
def counted(x, counts):
    counts += 1
    return x * 2
counts = torch.zeros(3)
for x, y in zip(data.split(4), data.split(4)):
    a = counted(x, counts)
    b = counted(y, counts)
    train(a + counts, b + counts)
""",
    "filled before anybody reads it": """
def filled(mask):
    mask.fill_(1)
    return mask
mask = torch.zeros(4, 3)
for x in data.split(4):
    ones = filled(mask)
    F.mse_loss(net(x * ones), x).backward()
""",
    "clipped, and its norm": """
def clipped(g):
    g.clamp_(-1, 1)
    return g.norm()
for x in data.split(4):
    size = clipped(x)
    print(torch.stack([size, x.sum()]))
""",
}


@pytest.mark.parametrize("case", HEALTHY)
def test_nothing_is_said_of(case: str) -> None:
    recording = recorded(HEAD + HEALTHY[case])
    assert recording.info.outcome.kind == "ok"
    assert [answer for answer in build(recording).answers if answer.code == "argument-written"] == []

"""A gradient computed from bytes that numpy, or a method of a storage, changed: found where it was seen to matter."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.recorder.state import foreign_memory
from tests.analysis.building import recorded

HEAD = """\
import numpy as np
import torch
w, u = torch.ones(3, requires_grad=True), torch.full((3,), 2.0, requires_grad=True)
"""
WRONG = {
    "numpy wrote a result that backward needs": """\
y = w.sigmoid()
y.detach().numpy()[0] = 5
y.sum().backward()
""",
    "numpy had the memory before it was saved": """\
x = torch.ones(3)
a = x.numpy()
y = w * x
np.add(a, 1, out=a)
y.sum().backward()
""",
    "a tensor on an array": """\
a = np.ones(3, dtype=np.float32)
t = torch.from_numpy(a)
y = w * t
a[1] = 8
y.sum().backward()
""",
    "a leaf on an array": """\
a = np.ones(3, dtype=np.float32)
t = torch.from_numpy(a).requires_grad_()
y = t * t
a[1] = 8
y.sum().backward()
""",
    "a storage was filled": "y = w.sigmoid()\ny.untyped_storage().fill_(0)\ny.sum().backward()",
    "a storage was written to": "y = w.sigmoid()\ny.untyped_storage()[0] = 3\ny.sum().backward()",
    "a storage was copied into": """\
y = w.sigmoid()
y.untyped_storage().copy_(torch.zeros(3).untyped_storage())
y.sum().backward()
""",
}
RIGHT = {
    "a batch that is filled anew": """\
a = np.ones(3, dtype=np.float32)
t = torch.from_numpy(a)
for step in range(3):
    a[:] = step
    (w * t).sum().backward()
""",
    "another row of the block": """\
a = np.zeros((2, 3), dtype=np.float32)
rows = torch.from_numpy(a)
y = w * rows[0]
a[1] = 3
y.sum().backward()
""",
    "every second number": """\
a = np.zeros((3, 2), dtype=np.float32)
columns = torch.from_numpy(a)
y = w * columns[:, 0]
a[:, 1] = 3
y.sum().backward()
""",
    "written when backward was over": "y = w.sigmoid()\na = y.detach().numpy()\ny.sum().backward()\na[0] = 5\n",
    "a copy": "y = w.sigmoid()\ny.detach().numpy().copy()[0] = 5\ny.sum().backward()\n",
    "torch wrote it": """\
x = torch.ones(3)
a = x.numpy()
y = w * u
x.mul_(2)
y.sum().backward()
""",
    "a storage that nobody saved": "x = torch.ones(3)\nx.untyped_storage().fill_(0)\n(w * u).sum().backward()\n",
}


def alarms(source: str) -> list[str]:
    """What is said of a program beyond notes."""
    return [one.text for one in build(recorded(source)).answers if one.severity != "note"]


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_it_is_said(body: str) -> None:
    source = HEAD + body
    (said,) = alarms(source)
    assert f"the gradient of the backward at line {len(source.strip().splitlines())} was computed from the" in said


@pytest.mark.parametrize("body", RIGHT.values(), ids=RIGHT)
def test_healthy_programs_get_no_word(body: str) -> None:
    assert not alarms(HEAD + body)


def test_no_more_is_looked_at_than_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    source = HEAD + WRONG["numpy wrote a result that backward needs"]
    monkeypatch.setattr(foreign_memory, "BLOCK_LIMIT", 8)
    assert not alarms(source)
    monkeypatch.setattr(foreign_memory, "BLOCK_LIMIT", 12)
    assert alarms(source)
    monkeypatch.setattr(foreign_memory, "BLOCKS", 1)
    assert not alarms(source.replace("\ny.sum()", "\nother = torch.ones(3).numpy()\ny.sum()"))

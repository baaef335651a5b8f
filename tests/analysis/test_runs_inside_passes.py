"""How often a line ran that runs inside backward passes only: by the calls that each run of it comes to."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

UNPACKED = """
import torch
from torch.autograd.graph import saved_tensors_hooks
ran = []
def pack(t):
    return t
def unpack(t):
    ran.append(1)
    return {gives}
w = torch.ones(3, requires_grad=True)
v = torch.ones(5, requires_grad=True)
for _ in range(2):
    with saved_tensors_hooks(pack, unpack):
        loss = (w * w).sum() + (v * v).sum()
    loss.backward()
assert len(ran) == 8
"""


@pytest.mark.parametrize(
    ("gives", "times"),
    [
        ("t.clone()", 8),
        ("t.clone() if len(t) > 3 else t.add(0)", 8),
        ("t.clone() if len(t) > 3 else t", 0),
        ("t if len(t) <= 3 else t.clone()", 0),
        ("((len(t) > 3 and [t.clone()]) or [t])[0]", 0),
    ],
)
def test_what_only_some_runs_call_does_not_tell_them(gives: str, times: int) -> None:
    source = UNPACKED.format(gives=gives)
    recording = recorded(source)
    assert recording.info.outcome.kind == "ok"
    (row,) = [row for row in build(recording).lines if row.line == line_of(source, gives)]
    assert row.executions == times  # (0: not known)

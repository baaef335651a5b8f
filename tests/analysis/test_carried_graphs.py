"""Graphs of earlier runs into which a pass comes: by what a loop carries, and by what was computed before it."""

from __future__ import annotations

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

STATE = """
import torch
rnn, head = torch.nn.LSTM(2, 3), torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD([*rnn.parameters(), *head.parameters()], lr=0.1)
state = None
for step in range(2):
    out, state = rnn(torch.ones(4, 1, 2), state)
    optimizer.zero_grad()
    head(out).sum().backward(retain_graph=True)
    optimizer.step()
"""

TARGETS = """
import torch
net = torch.nn.Linear(2, 2)
image = torch.zeros(1, 2, requires_grad=True)
targets = [torch.tanh(net(torch.ones(1, 2) * k)) for k in range(2)]
for step in range(2):
    loss = sum((net(image) - t).pow(2).sum() for t in targets)
    loss.backward()
"""


def found(source: str, code: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == code]


def test_the_state_that_a_loop_carries_is_the_cause_before_the_step_that_wrote() -> None:
    (answer,) = found(STATE, "inplace-error")
    assert answer.causes[0].line == line_of(STATE, "out, state")
    assert "into the graph of its own earlier run" in answer.text


def test_a_step_between_forward_and_backward_of_one_run_carries_nothing() -> None:
    early = STATE.replace("    head(out).sum().backward(retain_graph=True)\n    optimizer.step()\n", "")
    early += "    loss = head(out).pow(2).sum()\n    loss.backward(retain_graph=True)\n    optimizer.step()\n"
    early = early.replace("rnn(torch.ones(4, 1, 2), state)", "rnn(torch.ones(4, 1, 2))") + "    loss.backward()\n"
    (answer,) = found(early, "inplace-error")
    assert "earlier run" not in answer.text
    assert line_of(early, "optimizer.step()") in [cause.line for cause in answer.causes]


def test_a_list_that_is_computed_once_was_made_where_it_is_written_out() -> None:
    (answer,) = found(TARGETS, "graph-used-twice")
    assert [cause.line for cause in answer.causes] == [line_of(TARGETS, "targets = ")]
    assert f"line {line_of(TARGETS, 'loss = sum')}" not in answer.text

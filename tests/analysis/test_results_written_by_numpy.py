"""Results whose memory an array has that is written before the loss is computed; and arrays that change nothing."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import numpy as np
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 4){last})
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(4):
    q = net(torch.randn(8, 3))
    wanted = {takes}
    {write}
    loss = {loss}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    {behind}
"""
WRITE = "wanted[np.arange(8), 1] = 0.5"
LOSS = "nn.functional.mse_loss(q, torch.from_numpy(wanted))"


def said(
    takes: str = "q.detach().numpy()", write: str = WRITE, loss: str = LOSS, behind: str = "pass", last: str = ""
) -> list[tuple[str, list[int]]]:
    source = PROGRAM.format(takes=takes, write=write, loss=loss, behind=behind, last=last)
    answers = build(recorded(source)).answers
    taken = line_of(source, "wanted = ")
    return [
        (one.text, [cause.line - taken for cause in one.causes])
        for one in answers
        if one.code == "gradient-silently-wrong"
    ]


@pytest.mark.parametrize("takes", ["q.detach().numpy()", "q.data.numpy()", "np.asarray(q.detach())"])
@pytest.mark.parametrize("write", [WRITE, "np.clip(wanted, -0.1, 0.1, out=wanted)", "wanted *= 0.5"])
def test_a_target_that_is_written_into_the_prediction(takes: str, write: str) -> None:
    ((text, causes),) = said(takes, write)
    assert causes == [0, 1]
    assert "changed q itself" in text
    assert "all gradients of that pass are exactly zero, 4 of 4 times" in text


def test_what_was_saved_before_is_told_with_the_call_that_gave_the_array() -> None:
    ((text, causes),) = said(last=", nn.Sigmoid()")
    assert causes[0] == 0
    assert "which Tensor.numpy gave uncopied" in text


def test_no_zeros_are_told_of_where_there_are_none() -> None:
    ((text, _),) = said(loss="nn.functional.mse_loss(q, torch.ones(8, 4)) + wanted.sum().item()")
    assert "zero" not in text


@pytest.mark.parametrize("takes", ["q.detach().numpy().copy()", "q.detach().clone().numpy()", "np.array(q.detach())"])
def test_a_copy_is_quiet(takes: str) -> None:
    assert said(takes) == []


def test_what_is_written_behind_the_pass_or_read_by_nothing_is_quiet() -> None:
    ones = "nn.functional.mse_loss(q, torch.ones(8, 4))"
    assert said(write="pass", loss=ones, behind="wanted[0] = 1; print(wanted.mean())") == []
    # (nothing else takes the array: that the result is another one is what the write is for)
    assert said(loss=ones) == []
    assert said(write="pass") == []


def test_a_write_behind_the_call_that_takes_the_result_is_quiet() -> None:
    assert said(write="d = (q - 1).mean()", loss="d", behind="wanted[0] = 1; print(wanted.sum())") == []

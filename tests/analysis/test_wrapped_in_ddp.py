"""What DistributedDataParallel does in a healthy program is no news; what goes past it is."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import recorded

PROGRAM = """\
import contextlib, torch, torch.distributed as dist
from torch import nn
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 1)
    def forward(self, x, both=True):
        return self.two(self.one(x)) if both else self.two(x)
net = Net()
model = nn.parallel.DistributedDataParallel(net{options})
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    {body}
    opt.step()
    opt.zero_grad()
del model, opt
dist.destroy_process_group()
"""
BODY = 14
"""The line of the body."""


def answers(body: str, options: str = "") -> tuple[Answer, ...]:
    recording = recorded(PROGRAM.format(body=body, options=options))
    assert not recording.faults
    return build(recording).answers


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (", gradient_as_bucket_view=True", "model(torch.ones(2, 4)).sum().backward()"),
        (", find_unused_parameters=True", "model(torch.ones(2, 4), step % 2 == 0).sum().backward()"),
        (", static_graph=True", "model(torch.ones(2, 4)).sum().backward()"),
        (
            "",
            "with model.no_sync(): model(torch.ones(2, 4)).sum().backward()\n"
            "    model(torch.ones(2, 4)).sum().backward()",
        ),
    ],
)
def test_healthy_programs_are_silent(options: str, body: str):
    assert answers(body, options) == ()


ALONE = "with model.no_sync(): model(torch.ones(2, 4)).sum().backward()"


def test_steps_by_gradients_that_no_pass_averaged():
    (answer,) = answers(ALONE)
    assert (answer.code, answer.causes[0].line) == ("ddp-not-averaged", BODY)
    (answer,) = answers(f"{ALONE}\n    dist.all_reduce(torch.ones(()))")  # a number to be printed
    assert answer.code == "ddp-not-averaged"


def test_a_program_that_averages_itself_is_silent():
    assert answers(f"{ALONE}\n    for one in model.parameters(): dist.all_reduce(one.grad)") == ()


@pytest.mark.parametrize("called", ["model.module", "net"])
def test_the_module_inside_is_trained_under_any_name(called: str):
    (answer,) = answers(f"{called}(torch.ones(2, 4)).sum().backward()")
    assert (answer.code, answer.causes[0].line) == ("ddp-bypassed", BODY)
    averaging = "\n    for one in net.parameters(): dist.all_reduce(one.grad)"
    assert answers(f"{called}(torch.ones(2, 4)).sum().backward(){averaging}") == ()

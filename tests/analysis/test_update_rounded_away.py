"""Steps that half precision rounds away, and those that it does not or of which that is not known."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(3, 4), nn.{}, nn.Linear(4, 1))
{}
for step in range(4):
    optimizer.zero_grad()
    net(torch.randn(6, 3, dtype=net[0].weight.dtype)).float().pow(2).mean().backward()
    optimizer.step()
"""
ADAM = "optimizer = torch.optim.{}(net.parameters(), lr={})"


def lines(body: str, norm: str = "LayerNorm(4)") -> list[int]:
    answers = build(recorded(PROGRAM.format(norm, body))).answers
    return [one.causes[0].line for one in answers if one.code == "update-rounded-away"]


@pytest.mark.parametrize("norm", ["LayerNorm(4)", "BatchNorm1d(4)", "RMSNorm(4)"])
@pytest.mark.parametrize("cast", ["net.bfloat16()", "net = net.to(torch.bfloat16)"])
def test_the_line_that_puts_the_weights_into_half_precision_is_the_cause(norm: str, cast: str) -> None:
    body = f"{cast}  # here\n{ADAM.format('AdamW', 1e-4)}"
    assert lines(body, norm) == [line_of(PROGRAM.format(norm, body), "# here")]


@pytest.mark.parametrize(
    "body",
    [
        ADAM.format("AdamW", 1e-4),
        "net.bfloat16()\n" + ADAM.format("AdamW", 1e-2),
        "net.bfloat16()\n" + ADAM.format("SGD", 0.5),
        "net.bfloat16()\n" + ADAM.format("Adam", "1e-4, betas=(0.5, 0.9999)"),
        "net.bfloat16()\nnn.init.constant_(net[1].weight, 0.01)\n" + ADAM.format("Adam", 1e-4),
        "net.bfloat16()\n" + ADAM.format("Adam", 1e-4) + "\noptimizer.param_groups[0]['lr'] = 0.1",
        "net.bfloat16()\n"
        + ADAM.format("Adam", 1e-4)
        + "\nplan = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 100.0)",
    ],
)
def test_steps_that_are_large_enough_or_not_known_are_none(body: str) -> None:
    assert lines(body) == []


@pytest.mark.parametrize(("dtype", "half"), [(torch.bfloat16, 2.0**-9), (torch.float16, 2.0**-12)])
def test_what_torch_rounds_away(dtype: torch.dtype, half: float) -> None:
    one = torch.ones((), dtype=dtype)
    assert one - torch.tensor(0.999 * half, dtype=dtype) == one
    assert one - torch.tensor(1.01 * half, dtype=dtype) < one


PLAIN = """
import torch
net = torch.nn.Linear(16, 4).to(torch.{dtype})  # here
before = [one.detach().clone() for one in net.parameters()]
optimizer = torch.optim.{made}
for step in range({steps}):
    {first}
    optimizer.zero_grad()
    net(torch.randn(8, 16, dtype=net.weight.dtype)).float().pow(2).mean().backward()
    optimizer.step()
"""


def plain(made: str, dtype: str = "bfloat16", steps: int = 6, first: str = "pass") -> str:
    return PLAIN.format(made=made, dtype=dtype, steps=steps, first=first)


def lost(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "update-rounded-away"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "made",
    [
        "SGD(net.parameters(), lr=1e-8)",
        "SGD(net.parameters(), lr=1e-8, momentum=0.9)",
        "AdamW(net.parameters(), lr=1e-9, eps=1e-4, foreach=False)",
        "RMSprop([net.weight], lr=1e-9, eps=1e-4)",
    ],
)
def test_steps_that_change_nothing_at_all_are_seen(made: str, dtype: str) -> None:
    source = plain(made, dtype)
    names: dict[str, Any] = {}
    exec(source, names)
    is_kept = all(torch.equal(*pair) for pair in zip(names["before"], names["net"].parameters(), strict=True))
    assert is_kept
    assert lost(source) == [line_of(source, "# here")]


@pytest.mark.parametrize(
    "source",
    [
        plain("SGD(net.parameters(), lr=1e-2)"),
        plain("SGD(net.parameters(), lr=1e-8)", "float32"),
        plain("SGD(net.parameters(), lr=1e-8)", steps=2),
        plain("SGD(net.parameters(), lr=0.0)"),
        plain("SGD(net.parameters(), lr=1e-8)", first="optimizer.param_groups[0]['lr'] = 1e-8 * 100**step"),
        plain("SGD(net.parameters(), lr=1e-2)", first="net.load_state_dict(dict(zip(net.state_dict(), before)))"),
        plain("SGD(net.parameters(), lr=1e-8)").replace(".mean().backward", ".mul(0).mean().backward"),
        plain("SGD([one.float().detach().requires_grad_() for one in net.parameters()], lr=1e-8)"),
    ],
)
def test_steps_that_change_something_or_have_nothing_to_change_are_none(source: str) -> None:
    assert lost(source) == []


FINE = """
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Embedding(12, 16), nn.Flatten(), nn.Linear(64, 16), nn.GELU(), nn.Linear(16, 3))
{cast}  # here
optimizer = torch.optim.{made}
for step in range(6):
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(torch.randint(12, (8, 4))).float(), torch.randint(3, (8,))).backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("cast", "made"),
    [
        ("net = net.to(torch.bfloat16)", "AdamW(net.parameters(), lr=2e-5)"),
        ("net.half()", "Adam(net.parameters(), lr=5e-6, eps=1e-3)"),
        ("net.bfloat16()", "RMSprop(net.parameters(), lr=5e-6)"),
    ],
)
def test_steps_that_change_few_of_the_values_with_a_gradient_are_seen(cast: str, made: str) -> None:
    source = FINE.format(cast=cast, made=made)
    assert lost(source) == [line_of(source, "# here")]


@pytest.mark.parametrize(
    ("cast", "made"),
    [
        ("net.float()", "AdamW(net.parameters(), lr=2e-5)"),
        ("net.bfloat16()", "AdamW(net.parameters(), lr=3e-3)"),
        ("net.bfloat16()", "SGD(net.parameters(), lr=1e-2)"),
        ("net[0].bfloat16().requires_grad_(False), net[2:].bfloat16()", "AdamW(net.parameters(), lr=3e-3)"),
        ("net.bfloat16()", "AdamW([one.detach().float().requires_grad_() for one in net.parameters()], lr=2e-5)"),
    ],
)
def test_steps_that_change_most_or_that_follow_small_gradients_are_none(cast: str, made: str) -> None:
    assert lost(FINE.format(cast=cast, made=made)) == []


def test_looking_at_steps_is_no_part_of_the_recording() -> None:
    half, single = (recorded(plain("SGD(net.parameters(), lr=1e-8)", dtype)) for dtype in ("bfloat16", "float32"))
    assert len(half.ops) in (len(single.ops), len(single.ops) + 6)  # (float() converts)
    assert not build(half).faults


ONE_OF_MANY = """
import torch
from torch import nn
torch.manual_seed(0)
class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.{start}(16))
        self.fc = nn.Linear(16, 1)
    def forward(self, x):
        return self.fc(x * (self.gain + {offset}))
net = Scaled(){cast}  # here
optimizer = torch.optim.SGD(net.parameters(), lr={rate})
for step in range(9):
    x = torch.randn(16, 16, dtype=net.fc.weight.dtype)
    optimizer.zero_grad()
    (net(x){scale} - x.mean(1, keepdim=True)).float().pow(2).mean().backward()
    {then}
    optimizer.step()
"""


def of_many(
    cast: str = ".bfloat16()",
    start: str = "ones",
    offset: str = "0",
    rate: str = "1e-3",
    scale: str = "",
    then: str = "pass",
) -> str:
    return ONE_OF_MANY.format(cast=cast, start=start, offset=offset, rate=rate, scale=scale, then=then)


@pytest.mark.parametrize("source", [of_many(), of_many(cast=".to(torch.bfloat16)"), of_many(".half()", rate="1e-4")])
def test_one_parameter_that_no_step_changes_is_seen_beside_others_that_move(source: str) -> None:
    found = [one for one in build(recorded(source)).answers if one.code == "update-rounded-away"]
    assert [one.causes[0].line for one in found] == [line_of(source, "# here")]
    assert "net.gain is" in found[0].text
    assert "net.fc" not in found[0].text


@pytest.mark.parametrize(
    "source",
    [
        of_many(cast=""),
        of_many(start="zeros", offset="1"),
        of_many(rate="5e-2"),
        of_many().replace("range(9)", "range(3)"),
        of_many(then="optimizer.param_groups[0]['lr'] = 1e-3 * 3**step"),
        of_many(then="net.gain.grad.mul_(1e-3)"),
        of_many(then="net.gain.grad = None"),
        of_many(then="net.gain.grad[3:] = 0"),
    ],
)
def test_a_parameter_that_moves_or_gets_next_to_no_gradient_is_none(source: str) -> None:
    assert lost(source) == []

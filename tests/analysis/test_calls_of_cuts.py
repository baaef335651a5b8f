"""A cut inside a function that others call as well: the call that led to it is the line to change."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

POOL = """
import torch
from torch import nn
torch.manual_seed(0)
class Pool:
    def query(self, images):
        out = []
        for image in images.data.split(1):  # cut
            out.append(image)
        return torch.cat(out)
make, judge, pool = nn.Linear(3, 3), nn.Linear(3, 1), Pool()
x = torch.randn(4, 3)
def judged():
    return judge(pool.query(make(x))).mean()  # other
def fooled():
    made = make(x)
    loss = nn.functional.softplus(judge(pool.query(made))).mean()  # call
    return loss + (made - x).pow(2).mean()
makes, judges = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (make, judge))
for step in range(2):
    judge.requires_grad_(True)
    judges.zero_grad()
    judged().backward()
    judges.step()
    judge.requires_grad_(False)
    makes.zero_grad()
    fooled().backward()
    makes.step()
"""
MEMORY = """
import torch
from torch import nn
torch.manual_seed(0)
def look(x):
    y = x.detach()  # cut
    return y * 2
body, head = nn.Linear(3, 3), nn.Linear(3, 1)
x = torch.randn(4, 3)
def loss():
    z = look(body(x))  # call
    return head(z).pow(2).mean()
def log():
    return look(body(x)).norm().item()
for step in range(2):
    loss().backward()
    log()
"""


def found(source: str) -> list[Answer]:
    codes = ("term-without-gradient", "leaf-unreached")
    return [answer for answer in build(recorded(source)).answers if answer.code in codes]


BROKEN = POOL.replace("(pool.query(made))).mean()  # call", "(\n        pool.query(made)  # call\n    )).mean()")


@pytest.mark.parametrize("source", [POOL, MEMORY, BROKEN], ids=["a term", "a leaf", "of several lines"])
def test_the_call_is_the_first_cause_and_the_cut_in_it_the_second(source: str) -> None:
    (answer,) = found(source)
    call, cut = line_of(source, "# call"), line_of(source, "# cut")
    assert [cause.line for cause in answer.causes] == [call, cut]
    assert f", in what line {call} calls" in answer.text


@pytest.mark.parametrize(
    ("several", "one"),
    [
        ("    return look(body(x)).norm().item()", "    return body(x).norm().item()"),
        ("    z = look(body(x))  # call", "    z = look(look(body(x)))"),
    ],
    ids=["called at one place", "called twice there"],
)
def test_a_call_that_is_not_known_or_the_only_one_is_not_named(several: str, one: str) -> None:
    assert several in MEMORY
    (answer,) = found(MEMORY.replace(several, one))
    assert [cause.line for cause in answer.causes] == [line_of(MEMORY, "# cut")]
    assert "in what line" not in answer.text


def test_what_another_function_took_from_the_call_is_not_put_down_to_a_call_of_its_own() -> None:
    source = MEMORY.replace("def loss():\n", "def loss(z):\n").replace("    z = look(body(x))  # call\n", "")
    source = source.replace("loss().backward()", "loss(look(body(x))).backward()")
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# cut")]

"""Norms that overflow in float16: named where the infinity comes from, and only where it makes zeros of what counts."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

NET = """
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
layer, head = nn.Linear(8, 32), nn.Linear(32, 3)
x, y = torch.rand(16, 8) * {scale}, torch.randint(0, 3, (16,))
x[8:] *= {rest}

def norm(x):
{body}

optimizer = torch.optim.SGD([*layer.parameters(), *head.parameters()], lr=1e-3)
for step in range(4):
    with torch.autocast("cpu", dtype=torch.{dtype}):
        z = layer(x)
        out = head({call})
    loss = F.cross_entropy(out.float(), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def answers(
    body: str, scale: float = 3000, rest: float = 1, dtype: str = "float16", call: str = "norm(z)"
) -> list[Answer]:
    source = NET.format(
        body="\n".join(f"    {line}" for line in body.split("\n")), scale=scale, rest=rest, dtype=dtype, call=call
    )
    return build(recorded(source)).answers


def overflows(found: list[Answer]) -> list[Answer]:
    return [answer for answer in found if answer.code == "overflow-in-half"]


def source_of(answer: Answer) -> str:
    return answer.causes[0].source.strip()


@pytest.mark.parametrize(
    ("body", "blamed"),
    [
        ("n = x.pow(2).sum(-1, keepdim=True).sqrt()\nreturn x / n", "n = x.pow(2).sum(-1, keepdim=True).sqrt()"),
        (
            "ms = (x ** 2).mean(-1, keepdim=True)\nreturn x * torch.rsqrt(ms + 1e-6)",
            "ms = (x ** 2).mean(-1, keepdim=True)",
        ),
        ("sq = x * x\ns = sq.sum(-1, keepdim=True)\nreturn x * s ** -0.5", "sq = x * x"),
        (
            "mu = x.mean(-1, keepdim=True)\nvar = (x - mu).square().mean(-1, keepdim=True)\n"
            "return (x - mu) / torch.sqrt(var + 1e-5)",
            "var = (x - mu).square().mean(-1, keepdim=True)",
        ),
    ],
)
def test_the_squares_are_named_and_nothing_behind_them(body: str, blamed: str) -> None:
    found = answers(body)
    (answer,) = overflows(found)
    assert source_of(answer) == blamed
    assert "layer.weight and layer.bias is all zeros" in answer.text
    assert not [other for other in found if other.code == "gradient-always-zero"]


def test_where_the_squares_fit_it_is_their_sum() -> None:
    (answer,) = overflows(answers("sq = x * x\ns = sq.sum(-1, keepdim=True)\nreturn x * s ** -0.5", scale=180))
    assert source_of(answer) == "s = sq.sum(-1, keepdim=True)"
    assert "the squares of" in answer.text


def test_some_rows_alone_are_told_as_such() -> None:
    (answer,) = overflows(answers("n = x.pow(2).sum(-1, keepdim=True).sqrt()\nreturn x / n", scale=3, rest=1000))
    assert "in some places" in answer.text
    assert "all zeros" not in answer.text


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": 3},
        {"dtype": "bfloat16"},
        {"body": "n = x.float().pow(2).sum(-1, keepdim=True).sqrt()\nreturn x / n"},
        {"body": "return F.layer_norm(x, (32,))"},
        # (the weight of what is far away is zero, as it should be)
        {"body": "n = (x[:, :1] - x[:1, :1]).pow(2)\nreturn x.tanh() * (1 / (1 + n))", "rest": 0.001},
    ],
)
def test_what_fits_and_what_is_no_norm_is_not_reported(settings: dict[str, object]) -> None:
    body = "n = x.pow(2).sum(-1, keepdim=True).sqrt()\nreturn x / n"
    assert overflows(answers(**{"body": body, **settings})) == []  # type: ignore[arg-type]


def test_a_norm_that_is_only_shown_is_not_reported() -> None:
    body = "with torch.no_grad():\n    n = x.pow(2).sum(-1, keepdim=True).sqrt()\nreturn F.layer_norm(x, (32,))"
    assert overflows(answers(body)) == []


def test_the_line_is_that_of_the_call() -> None:
    source = NET.format(
        body="    return x / x.pow(2).sum(-1, keepdim=True).sqrt()  # here",
        scale=3000,
        rest=1,
        dtype="float16",
        call="norm(z)",
    )
    (answer,) = overflows(build(recorded(source)).answers)
    assert answer.causes[0].line == line_of(source.lstrip("\n"), "# here")

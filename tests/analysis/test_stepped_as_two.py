"""Two parameters on one memory that an optimizer steps as two: found however the second one was put there."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

TIED = """import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.embed = nn.Embedding(6, 4)
        self.head = nn.Linear(4, 6, bias=False)
        self.tie()

    def tie(self):
        self.head.weight = nn.Parameter(self.embed.weight)  # puts

    def forward(self, ids):
        return self.embed(ids) * self.scale @ self.head.weight.t()

model = Model()
opt = torch.optim.AdamW(model.parameters())
for step in range(3):
    opt.zero_grad()
    model(torch.arange(6)).logsumexp(1).sum().backward()
    opt.step()
"""
PUT = "self.head.weight = nn.Parameter(self.embed.weight)"


def told(source: str) -> list[tuple[str, int]]:
    answers = build(recorded(source)).answers
    return [
        (answer.code, cause.line)
        for answer in answers
        for cause in answer.causes
        if answer.code in ("tied-by-data", "write-through-alias")
    ]


@pytest.mark.parametrize(
    "put",
    [
        PUT,
        "self.head.weight = nn.Parameter(self.embed.weight.data)",
        "self.head.weight = nn.Parameter(self.embed.weight.detach().requires_grad_())",
        "setattr(self.head, 'weight', nn.Parameter(self.embed.weight[:]))",
        "self.head.register_parameter('weight', nn.Parameter(self.embed.weight))",
        "self.head = nn.Embedding.from_pretrained(self.embed.weight, freeze=False)",
        "self.head.weight.data = self.embed.weight.data",
        "with torch.no_grad(): self.head.weight.set_(self.embed.weight)",
    ],
)
def test_the_line_that_shares_the_memory_is_the_cause(put: str) -> None:
    source = TIED.replace(PUT, put)
    assert told(source) == [("tied-by-data", line_of(source, "# puts"))]


def test_a_part_of_the_memory_is_enough() -> None:
    source = TIED.replace(PUT, "self.head.weight = nn.Parameter(self.embed.weight[2:])")
    assert told(source) == [("tied-by-data", line_of(source, "# puts"))]


def test_a_weight_that_is_handed_over_is_found_where_it_is_wrapped() -> None:
    source = TIED.replace("self.tie()", "self.tie(self.embed.weight)").replace("tie(self):", "tie(self, weight):")
    source = source.replace(PUT, "self.head.weight = nn.Parameter(weight)")
    assert told(source) == [("tied-by-data", line_of(source, "# puts"))]


def test_sgd_adds_the_two_up_unless_it_decays_the_weights() -> None:
    momentum = TIED.replace("AdamW(model.parameters())", "SGD(model.parameters(), lr=0.1, momentum=0.9)")
    assert told(momentum) == []
    decays = TIED.replace("AdamW(model.parameters())", "SGD(model.parameters(), lr=0.1, weight_decay=0.1)")
    assert told(decays) == [("tied-by-data", line_of(decays, "# puts"))]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (PUT, "self.head.weight = self.embed.weight"),
        (PUT, "self.head.weight = nn.Parameter(self.embed.weight.clone())"),
        (PUT, "self.head.weight = nn.Parameter(self.embed.weight, requires_grad=False)"),
        (PUT, "self.embed.weight = nn.Parameter(self.embed.weight)"),
        (
            PUT,
            "both = torch.randn(12, 4)\n"
            "        self.embed.weight, self.head.weight = (nn.Parameter(one) for one in both.split(6))",
        ),
        (
            PUT,
            "both = torch.randn(12, 4)\n"
            "        self.embed.weight, self.head.weight = nn.Parameter(both[::2]), nn.Parameter(both[1::2])",
        ),
        ("model.parameters()", "[*model.embed.parameters(), model.scale]"),
        ("range(3)", "range(1)"),
    ],
)
def test_one_parameter_copies_and_parts_apart_are_none(old: str, new: str) -> None:
    assert told(TIED.replace(old, new)) == []


@pytest.mark.parametrize("put", ["second.weight.data = first.weight", "second.weight = nn.Parameter(first.weight)"])
def test_what_goes_on_where_another_one_was_trained_is_none(put: str) -> None:
    source = f"""import torch
from torch import nn
first, second = nn.Linear(3, 3), nn.Linear(3, 3)
for net in (first, second):
    if net is second:
        {put}
    opt = torch.optim.Adam(net.parameters())
    for step in range(3):
        opt.zero_grad()
        net(torch.ones(2, 3)).pow(2).sum().backward()
        opt.step()
"""
    assert told(source) == []

"""Parameters that were made on the memory of data: what their steps change beside them, and where that is meant."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from gradscope.frames.modules.pretrained_embeddings import pretrained_embeddings
from tests.analysis.building import line_of, recorded

CENTERS = """
import torch
from torch import nn
points = torch.randn(20, 2)
class Clusters(nn.Module):
    def __init__(self, start):
        super().__init__()
        {made}
    def forward(self, x):
        return torch.cdist(x, self.centers).min(1).values
net = Clusters(points[:3])
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(4):
    for batch in {batches}:
        optimizer.zero_grad()
        net(batch).sum().backward()
        optimizer.step()
"""
MADE = "self.centers = nn.Parameter(start)  # made"
SHUFFLED = "[points[one] for one in torch.randperm(20).split(10)]"


def told(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == "steps-change-data"]


def lines(source: str) -> list[list[int]]:
    return [[cause.line for cause in one.causes] for one in told(source)]


@pytest.mark.parametrize("batches", [SHUFFLED, "points.split(10)", "[points]"])
def test_a_part_of_the_data_that_is_trained_on(batches: str) -> None:
    source = CENTERS.format(made=MADE, batches=batches)
    (answer,) = told(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# made")]
    assert "on the memory of points" in answer.text


def test_a_leaf_that_no_parameter_wraps() -> None:
    source = """
import torch
points = torch.randn(20, 2)
centers = points[:3].detach().requires_grad_()  # made
optimizer = torch.optim.SGD([centers], lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    torch.cdist(points, centers).sum().backward()
    optimizer.step()
"""
    assert lines(source) == [[line_of(source, "# made")]]


@pytest.mark.parametrize(
    ("made", "batches"),
    [
        ("self.centers = nn.Parameter(start.clone())", SHUFFLED),
        ("self.centers = nn.Parameter(start * 1)", SHUFFLED),
        (MADE, "[points[3:]]"),
        (MADE, "[torch.randn(5, 2)]"),
        (MADE, "[torch.randn(5, 2) for one in [points.norm()]]"),
    ],
)
def test_a_copy_and_data_that_is_not_trained_on(made: str, batches: str) -> None:
    assert not told(CENTERS.format(made=made, batches=batches))


FLAT = """
import torch
from torch import nn
flat = torch.randn(30)
a, b = nn.Parameter(flat[:20].view(4, 5)), nn.Parameter(flat[20:].view(5, 2))
optimizer = torch.optim.SGD([a, b], lr=0.1)
for step in range(4):
    loss = (torch.ones(8, 4) @ a @ b).pow(2).mean() + 0 * flat.norm()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_a_flat_memory_that_parameters_make_up_is_meant() -> None:
    assert not told(FLAT)


IMAGE = """
import torch
from torch import nn
content = torch.rand(1, 3, 8, 8)
image = nn.Parameter({})  # made
optimizer = torch.optim.Adam([image], lr=0.05)
for step in range(4):
    optimizer.zero_grad()
    ((image.mean() - 1) ** 2 + {}).backward()
    optimizer.step()
"""


def test_what_a_parameter_began_with_is_compared_with_it() -> None:
    source = IMAGE.format("content", "nn.functional.mse_loss(image, content)")
    assert lines(source) == [[line_of(source, "# made")]]
    assert not told(IMAGE.format("content.clone()", "nn.functional.mse_loss(image, content)"))
    assert not told(IMAGE.format("content", "image.pow(2).sum()"))


TABLES = """
import torch
from torch import nn
vectors = torch.randn(30, 8)
class Net(nn.Module):
    def __init__(self, vectors):
        super().__init__()
        self.table = {}  # made
        self.head = nn.Linear(8, 1)
    def forward(self, x):
        return self.head(self.table(x))
def fit(net):
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        net(torch.randint(0, 30, (16,))).pow(2).mean().backward()
        optimizer.step()
"""
SHARED = "nn.Embedding.from_pretrained(vectors, freeze=False)"


@pytest.mark.parametrize(
    "use",
    [
        "a, b = Net(vectors), Net(vectors)\nfit(a)\nfit(b)\nprint(a(torch.arange(5)).sum())",
        "for fold in range(3):\n    fit(Net(vectors))",
    ],
)
def test_two_tables_of_one(use: str) -> None:
    source = TABLES.format(SHARED) + use
    assert lines(source) == [[line_of(source, "# made")]]
    assert not told(TABLES.format("nn.Embedding.from_pretrained(vectors.clone(), freeze=False)") + use)


@pytest.mark.parametrize(
    "use",
    [
        "net = Net(vectors)\nfit(net)\nprint(vectors.norm())",
        "net = Net(vectors)\nfit(net)\nother = Net(vectors.clone())\nfit(other)\nprint(net(torch.arange(5)).sum())",
    ],
)
def test_one_table(use: str) -> None:
    assert not told(TABLES.format(SHARED) + use)


def test_a_table_that_goes_on_from_a_trained_one() -> None:
    source = """
import torch
from torch import nn
v = torch.randn(30, 8)
def fit(table):
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        table(torch.randint(0, 30, (16,))).pow(2).mean().backward()
        optimizer.step()
first = nn.Embedding.from_pretrained(v, freeze=False)
fit(first)
second = nn.Embedding.from_pretrained(first.weight.data, freeze=False)
fit(second)
"""
    assert not told(source)


def test_two_tables_of_one_model() -> None:
    source = """
import torch
from torch import nn
v = torch.randn(30, 8)
user = nn.Embedding.from_pretrained(v, freeze=False)  # first
item = nn.Embedding.from_pretrained(v, freeze=False)  # second
optimizer = torch.optim.SGD([*user.parameters(), *item.parameters()], lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    (user(torch.arange(9)) * item(torch.arange(9, 18))).sum().backward()
    optimizer.step()
"""
    assert lines(source) == [[line_of(source, "# second"), line_of(source, "# first")]]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("self.a = nn.Embedding.from_pretrained(v, freeze=False)", {"a"}),
        ("return nn.Embedding.from_pretrained(v, False)", set()),
        ("self.a = nn.Embedding.from_pretrained(v)", None),
        ("self.a = Model.from_pretrained('name')", None),
    ],
)
def test_where_a_text_makes_a_table_that_is_trained(text: str, names: set[str] | None) -> None:
    found = pretrained_embeddings(f"def f(self, v):\n    {text}\n")
    assert [set(one.attributes) for one in found] == ([] if names is None else [names])

"""``from_pretrained`` called on an embedding, as if it changed that."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch import nn
vectors = torch.eye(4)
class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(4, 4)
        self.bag = nn.EmbeddingBag(4, 4)
        {}  # here
    def forward(self, ids):
        return self.table(ids) + self.bag(ids[:, None])
words = Words()
words(torch.arange(4)).sum().backward()
"""


def found(statement: str) -> tuple[list[int], list[str], str]:
    source = SOURCE.format(statement)
    answers = [one for one in build(recorded(source)).answers if one.code == "result-dropped"]
    return [one.causes[0].line for one in answers], [one.text for one in answers], source


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("self.table.from_pretrained(vectors, freeze=False)", "Embedding"),
        ("self.bag.from_pretrained(vectors)", "EmbeddingBag"),
    ],
)
def test_the_table_that_nothing_takes_is_named(statement: str, kind: str) -> None:
    lines, (text,), source = found(statement)
    assert lines == [line_of(source, "# here")]
    assert f"gives a new {kind}, which nothing takes" in text


@pytest.mark.parametrize(
    "statement",
    [
        "self.table = self.table.from_pretrained(vectors, freeze=False)",
        "self.table = nn.Embedding.from_pretrained(vectors)",
        "self.table.weight.data.copy_(vectors)",
    ],
)
def test_a_table_that_is_kept_is_fine(statement: str) -> None:
    assert found(statement)[0] == []


def test_a_class_of_the_programs_own_makes_one_of_its_own() -> None:
    source = """
import torch
from torch import nn
class Table(nn.Embedding):
    pass
made = Table.from_pretrained(torch.eye(3))
assert type(made) is Table and isinstance(Table.__dict__.get("from_pretrained", None), type(None))
assert nn.Embedding.from_pretrained.__name__ == "from_pretrained"
(made(torch.arange(3)) * torch.ones((), requires_grad=True)).sum().backward()
"""
    report = build(recorded(source))
    assert not report.errors and not report.faults

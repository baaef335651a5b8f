"""The version that a parameter is shown with is torch's, also where the module that makes it writes a part of it."""

from __future__ import annotations

import pytest
from torch import nn

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded


@pytest.mark.parametrize(
    ("kind", "options"),
    [("Embedding", {}), ("Embedding", {"padding_idx": 0}), ("EmbeddingBag", {"padding_idx": 1}), ("Linear", {})],
)
def test_the_version_of_a_new_parameter(kind: str, options: dict[str, int]) -> None:
    expected = getattr(nn, kind)(5, 2, **options).weight._version
    rows = build(recorded(f"import torch\nlayer = torch.nn.{kind}(5, 2, **{options})")).lines
    assert [row.version for row in rows if row.name == "layer.weight"] == [expected]

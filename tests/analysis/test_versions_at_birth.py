"""The version that a parameter is shown with is torch's, also where the module that makes it writes a part of it."""

from __future__ import annotations

import pytest
from torch import nn

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded


@pytest.mark.parametrize(
    "layer", ["Embedding(5, 2)", "Embedding(5, 2, padding_idx=0)", "EmbeddingBag(5, 2, padding_idx=1)", "Linear(2, 2)"]
)
def test_the_version_of_a_new_parameter(layer: str) -> None:
    expected = eval(f"nn.{layer}").weight._version
    rows = build(recorded(f"import torch\nlayer = torch.nn.{layer}")).lines
    assert [row.version for row in rows if row.name == "layer.weight"] == [expected]

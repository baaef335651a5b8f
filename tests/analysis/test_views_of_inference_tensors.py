"""A view that is taken outside of inference mode, of a tensor that was made inside."""

from __future__ import annotations

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """\
import torch
layer, table = torch.nn.Linear(3, 1), {}
@torch.inference_mode()
def warm():
    table["a"] = torch.ones(3) * 2
warm()
layer(table["a"].expand(4, -1)).sum().backward()
"""


def test_the_mode_is_named_and_not_the_view():
    (answer,) = [one for one in build(recorded(SOURCE)).answers if one.code == "inference-tensor"]
    assert [cause.line for cause in answer.causes] == [3]

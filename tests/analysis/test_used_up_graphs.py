"""``Trying to backward through the graph a second time``: where the way leads into what was used up."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = "import torch\nx = torch.ones(3, requires_grad=True)\n"


@pytest.mark.parametrize(
    ("program", "parts"),
    [
        (
            "z = x.exp()\na = z.sum()\nb = z.sin().sum()\na.backward()\nb.backward()",
            ["Line 7: backward failed, since b leads through z (made at line 3)", "the backward of line 6 had used up"],
        ),
        (
            "h = x\nfor step in range(3):\n    h = (h * x).exp()\n    h.sum().backward()",
            ["Line 6: backward failed", "through h (made at line 5)", "its own earlier run had used up"],
        ),
        (
            "y = x.exp().sum()\ny.backward()\ny.backward()",
            ["Line 5: backward failed, since y leads into a graph that the backward of line 4 had used up"],
        ),
    ],
)
def test_the_way_into_the_used_up_graph(program: str, parts: list[str]) -> None:
    (answer,) = [one for one in build(recorded(HEAD + program)).answers if one.code == "graph-used-twice"]
    assert answer.severity == "problem"
    for part in parts:
        assert part in answer.text


def test_another_error_is_not_explained_so() -> None:
    answers = build(recorded(HEAD + "x.exp().backward()")).answers
    assert "graph-used-twice" not in {answer.code for answer in answers}

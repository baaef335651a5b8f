"""Cuts by kind, and writes in place by what they do."""

import pytest

from gradscope.analysis import build
from tests.analysis.building import recorded

HEAD = "import torch\nx = torch.ones(3, requires_grad=True)\ny = x.sigmoid()\n"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("z = y.detach()", "detach"),
        ("z = y.data", "data"),
        ("y.detach_()", "detach"),
        ("v = y.tolist()", "export"),
        ("z = y > 0", "not_differentiable"),
        ("z = y.long()", "not_differentiable"),
        ("x.requires_grad_(False)", "requires_grad_false"),
        ("x.requires_grad = False", "requires_grad_false"),
        ("z = torch.tensor(y[0])", "new_tensor"),
        ("with torch.no_grad(): z = y * 2", "no_grad"),
        ("with torch.inference_mode(): z = y * 2", "inference_mode"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_kind_of_a_cut(line: str, kind: str) -> None:
    cuts = build(recorded(HEAD + line)).cuts
    assert [cut.kind for cut in cuts] == [kind]
    assert cuts[0].place.line == 4


@pytest.mark.parametrize(
    "line",
    [
        "z = y * 2",
        "z = torch.zeros_like(y)",
        "z = y.new_zeros(3)",
        "v = y.shape",
        "values, at = y.max(0)",
        "x.grad = None",
    ],
)
def test_what_is_no_cut(line: str) -> None:
    assert build(recorded(HEAD + line)).cuts == ()


@pytest.mark.parametrize(
    ("write", "effect"),
    [
        ("y.detach().zero_()\nz.backward()", "raised"),
        ("y.data.zero_()\nz.backward()", "silently_wrong"),
        ("y.detach().zero_()", "would_raise"),
        ("y.data.zero_()", "would_be_silently_wrong"),
        ("z.backward()\ny.data.zero_()", "none"),
        ("c = y.detach().clone()\nc.zero_()\nz.backward()", "none"),
    ],
)
def test_the_effect_of_a_write(write: str, effect: str) -> None:
    (found,) = build(recorded(HEAD + "z = y.sum()\n" + write)).inplace_writes
    assert found.effect == effect
    if effect != "none":
        assert (found.saved_as, found.saved_line) == ("result of SigmoidBackward0", 3)
        assert found.seen_by == ("y",)


def test_the_write_of_an_optimizer_is_no_trouble() -> None:
    source = """
    import torch
    w = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1)
    for step in range(5):
        (w * w).sum().backward()
        optimizer.step()
    """
    writes = build(recorded(source)).inplace_writes
    assert [(write.effect, write.executions) for write in writes] == [("none", 5)]

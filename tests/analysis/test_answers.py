"""The questions that people ask most, each as a program, and the answer that its recording gives."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = "import torch\nfrom torch import nn\ntorch.manual_seed(0)\n"

QUESTIONS = {
    "the grad of a non-leaf": (
        """
        x = torch.ones(3, requires_grad=True)
        y = x * 2
        y.sum().backward()
        print(y.grad)
        """,
        "grad-none-non-leaf",
        ["y.grad is None at line 7", "made at line 5 by Tensor.mul from x", "read x.grad instead", "y.retain_grad()"],
    ),
    "the grad of a view of a leaf that was made one later": (
        """
        image = torch.ones(2, 2)
        image.requires_grad = True
        flat = image.view(-1)
        flat.sum().backward()
        print(flat.grad)
        """,
        "grad-none-non-leaf",
        ["flat is not a leaf", "read image.grad instead"],
    ),
    "a grad that was cleared before it was read": (
        """
        w = torch.ones(3, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=0.1)
        w.sum().backward()
        optimizer.zero_grad()
        print(w.grad)
        """,
        "grad-none-cleared",
        ["w.grad is None at line 8: line 7 (optim.", "zero_grad) had set it to None"],
    ),
    "a leaf that was lost on the way": (
        """
        w = torch.ones(3, requires_grad=True).double()
        (w * 2).sum().backward()
        print(w.grad)
        """,
        "grad-none-non-leaf",
        ["made at line 4 by Tensor.double", "set requires_grad on it last"],
    ),
    "a backward from what does not require grad": (
        """
        x = torch.ones(3, requires_grad=True)
        loss = (x * 2).detach().sum()
        loss.backward()
        """,
        "backward-no-grad",
        ["Line 6: backward failed", "loss does not require grad", "cut at line 5 by Tensor.detach"],
    ),
    "a threshold in between": (
        """
        x = torch.ones(3, requires_grad=True)
        loss = (x > 0.5).float().sum()
        loss.backward()
        """,
        "backward-no-grad",
        ["cut at line 5 by Tensor.gt (an integer or boolean result has no gradient)"],
    ),
    "nothing that requires grad": (
        """
        loss = torch.ones(3).sum()
        loss.backward()
        """,
        "backward-no-grad",
        ["nothing that it was made from requires grad", "made at line 4 by Tensor.sum"],
    ),
    "requires_grad set on the loss": (
        """
        x = torch.ones(3, requires_grad=True)
        loss = torch.tensor(x.sum().item(), requires_grad=True)
        loss.backward()
        """,
        "backward-reached-nothing",
        ["reached nothing but loss itself", "left torch at line 5 by Tensor.item"],
    ),
    "a leaf behind detach": (
        """
        x = torch.ones(3, requires_grad=True)
        w = torch.ones(3, requires_grad=True)
        loss = (x.detach() * w).sum()
        loss.backward()
        print(x.grad)
        """,
        "grad-none-unreached",
        ["x.grad is None at line 8: cut at line 6 by Tensor.detach"],
    ),
    "a sample, which is taken under no_grad": (
        """
        from torch.distributions import Normal
        mean = torch.zeros(3, requires_grad=True)
        z = Normal(mean, torch.ones(3)).sample()
        w = torch.ones(3, requires_grad=True)
        (z * w).sum().backward()
        print(mean.grad)
        """,
        "grad-none-unreached",
        ["mean.grad is None at line 9: cut at line 6 by no_grad (distributions.Normal.sample)"],
    ),
    "a view made under no_grad": (
        """
        w = torch.ones(2, 3, requires_grad=True)
        with torch.no_grad():
            turned = w.t()
        (turned * 2).sum().backward()
        print(w.grad)
        """,
        "grad-none-unreached",
        ["w.grad is None at line 8: cut at line 5 by no_grad"],
    ),
    "the grad of a view made under no_grad": (
        """
        w = torch.ones(2, 3, requires_grad=True)
        with torch.no_grad():
            turned = w.t()
        (turned * 2).sum().backward()
        print(turned.grad)
        """,
        "grad-none-untracked",
        ["turned.grad is None at line 8", "made at line 6 by Tensor.t from w under no_grad"],
    ),
    "a Function whose backward returns None": (
        """
        class Double(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, w):
                return x * w
            @staticmethod
            def backward(ctx, grad):
                return grad, None
        x, w = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
        y = Double.apply(x, w)
        y.sum().backward()
        print(w.grad)
        """,
        "grad-none-unreached",
        ["the graph leads to it, but Double's backward returns None for it at line 10"],
    ),
    "values that left torch and came back": (
        """
        w = torch.ones(3, requires_grad=True)
        scale = torch.ones((), requires_grad=True)
        loss = torch.tensor((w * 2).sum().item()) * scale
        loss.backward()
        print(w.grad)
        """,
        "grad-none-unreached",
        ["w.grad is None at line 8: cut at line 6 by Tensor.item", "loss was built from plain values at line 6"],
    ),
    "values that left torch for a log": (
        """
        w = torch.ones(3, requires_grad=True)
        x = torch.ones(3, requires_grad=True)
        print((w * 2).sum().item())
        loss = x.sum()
        loss.backward()
        print(w.grad)
        """,
        "grad-none-unreached",
        ["w.grad is None at line 9: used at line 6, but no way from there to loss was seen"],
    ),
    "a leaf that is not used": (
        """
        x = torch.ones(3, requires_grad=True)
        w = torch.ones(3, requires_grad=True)
        x.sum().backward()
        """,
        "leaf-unreached",
        ["Line 6: backward gave w no gradient: no call was seen to use it"],
    ),
    "a write that broke backward": (
        """
        x = torch.ones(3, requires_grad=True)
        y = x.sigmoid()
        z = y.sum()
        y.detach().zero_()
        z.backward()
        """,
        "inplace-error",
        [
            "Line 7: Tensor.zero_ wrote through <y.detach()> into memory that line 5 had saved",
            "backward at line 8 failed",
        ],
    ),
    "a write through data": (
        """
        x = torch.ones(3, requires_grad=True)
        y = x.sigmoid()
        z = y.sum()
        y.data.zero_()
        z.backward()
        """,
        "gradient-silently-wrong",
        ["Line 7: Tensor.zero_", "line 5 had saved", "line 8 was computed from the changed values"],
    ),
    "a sum of losses": (
        """
        w = torch.ones(3, requires_grad=True)
        total = 0
        for step in range(20):
            loss = (w * step).sum()
            loss.backward()
            total = total + loss
        """,
        "graph-carried-along",
        ["Line 9: total carries its graph", "total.detach()"],
    ),
    "saved in vain": (
        """
        w = torch.ones(1000, 1000, requires_grad=True)
        w.sum().backward()
        validation = (w.exp() * 2).mean()
        """,
        "saved-in-vain",
        ["Line 6: saved", "torch.no_grad()"],
    ),
    "a write past autograd that a backward would need": (
        """
        w = nn.Linear(3, 3)
        loss = w(torch.ones(2, 3, requires_grad=True)).sum()
        for p in w.parameters():
            p.data.clamp_(-1, 1)
        """,
        "write-through-alias",
        ["Line 7: Tensor.clamp_ through <p.data> also changed w.", "autograd cannot notice"],
    ),
    "weights saved without a copy": (
        """
        model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        best = model.state_dict()
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        model.load_state_dict(best)
        """,
        "snapshot-shares-memory",
        ["Line 6: nn.Module.state_dict took best['weight'] and best['bias'] without a copy", "SGD.step changed it"],
    ),
    "a write that others see": (
        """
        a = torch.ones(3)
        b = a[1:]
        b.add_(1)
        """,
        "write-through-alias",
        ["Line 6: Tensor.add_ through b also changed a: they share memory"],
    ),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_recording_answers(question: str) -> None:
    program, code, parts = QUESTIONS[question]
    report = build(recorded(HEAD + "\n".join(line.strip("\n")[8:] for line in program.strip("\n").split("\n"))))
    found = [answer for answer in report.answers if answer.code == code]
    assert found, [answer.code for answer in report.answers]
    for part in parts:
        assert part in found[0].text


FROZEN = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
model[0].requires_grad_(False)
model(torch.ones(2, 4)).sum().backward()
for parameter in model.parameters():
    print(parameter.grad)
"""


def test_frozen_parameters_are_no_failure_and_share_one_sentence() -> None:
    report = build(recorded(FROZEN))
    assert {answer.code for answer in report.answers} == {"frozen", "grad-none-untracked"}
    (frozen,) = [answer for answer in report.answers if answer.code == "frozen"]
    assert "model.0.weight and model.0.bias did not require grad" in frozen.text
    (read,) = [answer for answer in report.answers if answer.code == "grad-none-untracked"]
    assert read.text == (
        "model.0.weight and model.0.bias: .grad is None at line 7: it does not require grad: line 4 "
        "(nn.Module.requires_grad_) had turned that off."
    )
    assert report.summary.leaves_without_gradient == 0


HARMLESS = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(12):
    loss = model(torch.randn(16, 4)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    print(model(torch.randn(2, 4)))
"""


def test_a_sound_program_is_not_blamed() -> None:
    report = build(recorded(HARMLESS))
    assert [answer for answer in report.answers if answer.severity != "note"] == []
    assert report.summary.leaves_with_gradient == 4
    assert report.summary.leaves_without_gradient == 0


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (
            "model = nn.Linear(3, 2)\nfor p in model.parameters():\n    p.data.clamp_(-1, 1)",
            ["Line 6: Tensor.clamp_ through <p.data> also changed model.weight and model.bias: they share memory."],
        ),
        (
            "w = torch.ones(3, requires_grad=True)\n(w * w).sum().backward()\nw.data.sub_(w.grad)",
            ["Line 6: Tensor.sub_ through <w.data> also changed w: they share memory."],
        ),
        (
            "w = nn.Parameter(torch.ones(3))\nfor step in range(2):\n    shown = w.detach()\n    w.sum().backward()\n"
            "    torch.optim.SGD([w]).step()",
            [],
        ),
    ],
)
def test_a_write_that_no_graph_needs_is_no_more_than_a_note(program: str, told: list[str]) -> None:
    found = build(recorded(HEAD + program)).answers
    writes = [answer for answer in found if answer.code == "write-through-alias"]
    assert [answer.text for answer in writes] == told
    assert {answer.severity for answer in writes} <= {"note"}


@pytest.mark.parametrize(
    "program",
    [
        "a = torch.ones(3)\na.add_(1)\nb = a[1:]",
        "a = torch.ones(3)\nb = a[1:]\nb.sum()\ndel b\na.add_(1)",
        "a = torch.ones(3)\nkept = [a]\na = a[1:]\na.add_(1)",
    ],
    ids=["made later", "gone before", "of the same name"],
)
def test_a_write_that_no_other_name_sees_is_not_told(program: str) -> None:
    assert build(recorded(HEAD + program)).answers == ()


def test_a_grad_that_was_none_already_was_not_cleared() -> None:
    source = """
x, w = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
w.sum().backward()
x.grad = None
print(x.grad)
"""
    (told,) = build(recorded(HEAD + source)).answers
    assert told.code == "grad-none-unreached"


def test_it_is_not_said_that_autograd_cannot_notice_where_it_did() -> None:
    source = """
a = torch.ones(3, 4, requires_grad=True)
b = a.data
z = torch.einsum("ij,kj->ik", a, b)
b.zero_()
try:
    z.sum().backward()
except RuntimeError:
    pass
"""
    assert not any("cannot notice" in answer.text for answer in build(recorded(HEAD + source)).answers)


def test_what_a_pass_that_failed_was_to_reach_is_no_leaf_without_use() -> None:
    source = """
w, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
y = w.exp()
first, second = y.sum(), (y * v).sum()
first.backward()
second.backward()
"""
    assert "leaf-unreached" not in {answer.code for answer in build(recorded(HEAD + source)).answers}


def test_a_name_that_holds_another_tensor_by_now_is_not_told_to_be_read() -> None:
    source = """
x = torch.ones(3, requires_grad=True)
x = x * 2
x.sum().backward()
print(x.grad)
"""
    (told,) = [one for one in build(recorded(HEAD + source)).answers if one.code == "grad-none-non-leaf"]
    assert "instead" not in told.text
    assert "set requires_grad on it last" in told.text


def test_a_leaf_that_was_only_written_was_not_used() -> None:
    source = """
w, mean = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
with torch.no_grad():
    mean.lerp_(w, 0.1)
w.sum().backward()
"""
    (told,) = [one for one in build(recorded(HEAD + source)).answers if one.code == "leaf-unreached"]
    assert (told.severity, told.text.partition("gave ")[2]) == (
        "note",
        "mean no gradient: no call was seen to use it before this backward pass.",
    )


def test_a_loss_that_was_given_twice_has_one_answer() -> None:
    source = """
x = torch.ones(3, requires_grad=True)
loss = (x * x).sum()
loss.backward()
torch.autograd.backward([loss, loss])
"""
    told = [answer.code for answer in build(recorded(HEAD + source)).answers]
    assert told == ["graph-used-twice"]


SNAPSHOT = """
model = nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
best = model.state_dict()
model(torch.ones(1, 3)).sum().backward()
optimizer.step()
{}
del best
"""


@pytest.mark.parametrize(("use", "is_told"), [("model.load_state_dict(best)", True), ("", False)])
def test_weights_saved_without_a_copy_matter_where_they_are_used_later(use: str, is_told: bool) -> None:
    told = [answer.code for answer in build(recorded(HEAD + SNAPSHOT.format(use))).answers]
    assert told == ["snapshot-shares-memory"] * is_told


def test_problems_come_first() -> None:
    source = QUESTIONS["the grad of a non-leaf"][0] + "\n        a = x.detach()\n        a.add_(1)\n"
    report = build(recorded(HEAD + "\n".join(line[8:] for line in source.strip("\n").split("\n"))))
    severities = [answer.severity for answer in report.answers]
    assert severities == sorted(severities, key=("problem", "warning", "note").index)
    assert len(set(severities)) > 1

"""Why ``.grad`` of what was computed from others is None: ``retain_grad()`` helps only where a pass comes through."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PROGRAM = """import torch
w, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
h = w * 2
{}
"""


def told(body: str) -> Answer:
    answers = build(recorded(PROGRAM.format(body))).answers
    (answer,) = [one for one in answers if one.code.startswith("grad-none")]
    return answer


def by_hand(body: str) -> dict[str, object]:
    names: dict[str, object] = {}
    exec(PROGRAM.format(body), names)
    return names


@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.parametrize("kept", ["", "h.retain_grad()\n"])
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("z = h.detach().sum() + w.sum()  # here\nz.backward()", "cut at line"),
        ("z = h.data.sum() + v.sum()  # here\nz.backward()", "cut at line"),
        ("with torch.no_grad():  # here\n    k = h * 3\nz = (k + w).sum()\nz.backward()", "cut at line"),
        ("k = torch.tensor(h.tolist())  # here\nz = (k * w).sum()\nz.backward()", "line"),
        ("for _ in range(12):\n    z = (h.detach() * w).sum()  # here\n    z.backward()", "cut at line"),
    ],
)
def test_a_pass_that_was_cut_off_is_said_and_retaining_is_no_cure(body: str, said: str, kept: str) -> None:
    body = f"{kept}{body}\nprint(h.grad)"
    assert by_hand(body)["h"].grad is None  # type: ignore[attr-defined]
    answer = told(body)
    assert (answer.code, answer.causes[0].line) == ("grad-none-unreached", line_of(PROGRAM.format(body), "# here"))
    assert "did not come through h" in answer.text
    assert said in answer.text
    assert ("has to be called as well" in answer.text) == (not kept)
    assert "instead" not in answer.text


@pytest.mark.parametrize("kept", ["", "h.retain_grad()\n"])
@pytest.mark.parametrize(
    "body",
    ["aux = h.exp().sum()\nz = (w ** 2).sum()\nz.backward()", "z = (w ** 2).sum()\nz.backward()"],
)
def test_what_has_no_part_in_the_loss_is_said_to_have_none(body: str, kept: str) -> None:
    answer = told(f"{kept}{body}\nprint(h.grad)")
    assert answer.code == "grad-none-unreached"
    assert "did not come through h" in answer.text
    assert "retain_grad" not in answer.text


def test_what_a_pass_came_through_is_to_be_retained() -> None:
    answer = told("h.detach().sum()\nz = (h * v).sum()\nz.backward()\nprint(h.grad)")
    assert answer.code == "grad-none-non-leaf"
    assert "read w.grad instead" in answer.text
    assert "call h.retain_grad() before backward" in answer.text


def test_a_leaf_that_has_no_gradient_is_not_said_to_have_one() -> None:
    answer = told("(h * v).sum().backward()\nw.grad = None\nprint(h.grad)")
    assert answer.code == "grad-none-non-leaf"
    assert "instead" not in answer.text


STEPS = """import torch
w, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
(w * 2).sum().backward()
k = w{}
for _ in range(2):
    k = k * v
k.sum().backward({})
print(k.grad)
"""


@pytest.mark.parametrize(
    ("copy", "inputs", "read"),
    [
        ("", "", "read v.grad and w.grad instead"),
        (".detach()", "", "read v.grad instead"),  # the gradient of w is of the pass before
        (".detach().clone().requires_grad_()", "", "read v.grad instead"),
        ("", "inputs=[v]", "read v.grad instead"),
    ],
)
def test_a_leaf_to_read_is_one_that_the_pass_came_to(copy: str, inputs: str, read: str) -> None:
    (answer,) = [one for one in build(recorded(STEPS.format(copy, inputs))).answers if one.code == "grad-none-non-leaf"]
    assert read in answer.text


def test_the_leaf_whose_name_was_given_to_what_was_made_of_it_is_not_mixed_up_with_the_one_it_was_copied_from() -> None:
    source = STEPS.format(".detach().clone().requires_grad_()", "").replace("k * v", "k - 0.1 * k.cos()")
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "grad-none-non-leaf"]
    assert "instead" not in answer.text


@pytest.mark.parametrize(("again", "reads"), [("w", True), ("w.detach()", False)])
def test_so_it_is_in_the_last_of_many_rounds(again: str, reads: bool) -> None:
    source = f"""import torch
w, u = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
for _ in range(40):
    w.grad = None
    (w * 2).sum().backward()
    h = {again} * u[:1]
    h.sum().backward()
    print(h.grad)
"""
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "grad-none-non-leaf"]
    assert ("read w.grad and u.grad instead" in answer.text) == reads
    assert ("read u.grad instead" in answer.text) != reads


def test_retaining_after_the_pass_is_too_late() -> None:
    body = "(h * v).sum().backward()\nh.retain_grad()  # here\nprint(h.grad)"
    answer = told(body)
    assert answer.code == "grad-none-non-leaf"
    assert answer.causes[0].line == line_of(PROGRAM.format(body), "# here")
    assert "after the backward pass of line 4" in answer.text


def test_a_result_that_is_read_before_any_pass_has_no_leaf_to_read_instead() -> None:
    answer = told("print(h.grad)\n(h * v).sum().backward()")
    assert "no backward pass had run by then" in answer.text
    assert "instead" not in answer.text


def test_what_was_retained_in_time_is_no_matter() -> None:
    answers = build(recorded(PROGRAM.format("h.retain_grad()\n(h * v).sum().backward()\nprint(h.grad)"))).answers
    assert not answers


def test_what_a_function_of_the_program_s_gave_is_no_leaf() -> None:
    source = """
        import torch
        class Double(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2
            @staticmethod
            def backward(ctx, gradient):
                return gradient * 2
        w = torch.ones(3, requires_grad=True)
        h = Double.apply(w)
        h.sum().backward()
        print(h.grad)
    """
    (answer,) = (one for one in build(recorded(source)).answers if one.code.startswith("grad-none"))
    assert answer.code == "grad-none-non-leaf"
    assert "read w.grad instead" in answer.text

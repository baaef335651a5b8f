"""A custom Function whose backward gives a leaf None: the line of its source that says so is the cause."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PRODUCT = """
import torch
class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, k, w):
        ctx.save_for_backward(x, w)
        return x * w
    @staticmethod
    {decorator}def backward(ctx, grad):
        x, w = ctx.saved_tensors
        {gives}
x, w = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
y = {use}
y.sum().backward()
"""


def missed(gives: str, use: str = "Product.apply(x, 2, w)", decorator: str = "") -> tuple[str, list[Answer]]:
    source = PRODUCT.format(gives=gives, use=use, decorator=decorator)
    return source, [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]


@pytest.mark.parametrize(
    "use",
    ["Product.apply(x, 2, w)", "Product.apply(x, 2, w.view(3) * 1)"],
    ids=["straight", "behind torch's nodes"],
)
@pytest.mark.parametrize(
    "decorator", ["", "@torch.autograd.function.once_differentiable\n    "], ids=["plain", "wrapped"]
)
def test_the_return_that_says_none_is_the_cause(use: str, decorator: str) -> None:
    source, (answer,) = missed("return grad * w, None, None", use, decorator)
    line = line_of(source, "return grad * w, None")
    assert answer.text.endswith(f"the graph leads to it, but Product's backward returns None for it at line {line}.")
    assert [(cause.line, cause.role) for cause in answer.causes] == [(line, "returned")]


def test_a_name_that_may_be_none_is_not_said_to_be_written_as_none() -> None:
    source, (answer,) = missed("of_w = None; return grad * w, 0 * grad, of_w", "Product.apply(x, torch.ones(3), w)")
    line = line_of(source, "of_w = None")
    assert f"Product's backward gave it no gradient (None): line {line}" in answer.text
    assert [cause.line for cause in answer.causes] == [line]


def test_where_several_returns_may_have_run_the_def_is_named() -> None:
    source, (answer,) = missed("if x is None: return None, None, None\n        return grad * w, None, None")
    assert [cause.line for cause in answer.causes] == [line_of(source, "def backward")]


def test_a_leaf_that_gets_its_gradient_another_way_is_not_missed() -> None:
    assert missed("return grad * w, None, None", "Product.apply(x, 2, w) + w")[1] == []


def test_of_two_functions_with_one_name_none_is_blamed_by_its_source() -> None:
    other = PRODUCT.format(gives="return grad * w, None, None", use="Product.apply(x, 2, w)", decorator="")
    twice = other + other.replace("import torch\n", "").replace("x, w = torch.ones", "x, v = torch.ones")
    for answer in build(recorded(twice)).answers:
        assert [cause.role for cause in answer.causes] == []


CONDITION = """
import torch
class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, bias, k):
        ctx.save_for_backward(x, w)
        return x @ w + bias
    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        {}
        return of_x, of_w, grad.sum(0) if ctx.needs_input_grad[2] else None, None
x, w, bias = torch.ones(2, 3), torch.ones(3, 4, requires_grad=True), torch.ones(4, requires_grad=True)
Product.apply(x, w, bias, 2).sum().backward()
"""


def under(body: str) -> list[tuple[list[str], str]]:
    """The lines of the causes, and the sentence."""
    source = CONDITION.format(body.replace("\n", "\n        "))
    answers = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    text = source.strip().split("\n")
    return [([text[cause.line - 1].strip() for cause in one.causes], one.text) for one in answers]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (
            "of_x = of_w = None\nif {}:\n    of_x = grad @ w.t()\n    of_w = x.t() @ grad",
            ["if {}:", "of_w = x.t() @ grad"],
        ),
        ("of_x, of_w = None, x.t() @ grad if {} else None", ["of_x, of_w = None, x.t() @ grad if {} else None"]),
        (
            "of_x = None\nif not {}:\n    of_w = None\nelse:\n    of_w = x.t().mm(grad)",
            ["if not {}:", "of_w = x.t().mm(grad)"],
        ),
    ],
)
@pytest.mark.parametrize(
    ("asked", "told"),
    [("ctx.needs_input_grad[0]", True), ("(ctx.needs_input_grad[0] and ctx.needs_input_grad[1])", False)],
)
def test_a_gradient_computed_under_the_condition_of_another_input_names_the_condition(
    body: str, named: list[str], asked: str, told: bool
) -> None:
    ((lines, text),) = under(body.format(asked))
    assert lines == [one.format(asked) for one in named]
    assert ("which asks for x and did not hold" in text) == (told and "not " not in body)


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ("ctx.needs_input_grad[1]", 0),
        ("ctx.needs_input_grad[0] or ctx.needs_input_grad[1]", 0),
        ("any(ctx.needs_input_grad)", 0),
        ("wants[0]", 1),
    ],
)
def test_a_condition_that_holds_for_the_input_itself_is_none(asked: str, count: int) -> None:
    body = f"wants = ctx.needs_input_grad\nof_x = of_w = None\nif {asked}:\n    of_w = x.t() @ grad"
    assert len(under(body)) == count


def test_an_elif_is_told_by_its_own_line() -> None:
    first = "of_x = of_w = None\nif grad is not None:\n    of_x = grad @ w.t()\n"
    body = f"{first}elif ctx.needs_input_grad[1]:\n    of_w = x.t() @ grad"
    ((lines, text),) = under(body)
    assert lines == ["elif ctx.needs_input_grad[1]:", "of_w = x.t() @ grad"]
    assert "only in the elif of line" in text


def test_what_may_be_given_elsewhere_too_is_told_by_the_return() -> None:
    body = "of_x = of_w = None\nif ctx.needs_input_grad[0]:\n    of_w = x.t() @ grad\nfor of_w in [None]:\n    pass"
    ((lines, _),) = under(body)
    assert lines[0].startswith("return of_x, of_w")


@pytest.mark.parametrize(
    ("block", "is_told"), [("if True:", True), ("with torch.enable_grad():", False)], ids=["without", "enabled"]
)
def test_what_a_backward_computes_without_a_graph_and_asks_for_gradients(block: str, is_told: bool) -> None:
    gives = f"""w = w.detach().requires_grad_()
        {block}
            out = torch.mul(x, w)  # anew
        out.requires_grad_()
        given = torch.autograd.grad(out, w, grad, allow_unused=True)
        return grad * w, 0 * grad, given[0]"""
    source, answers = missed(gives, "Product.apply(x, torch.ones(3), w)")
    lines = [cause.line for one in answers for cause in one.causes]
    assert lines == ([line_of(source, "# anew")] if is_told else [])

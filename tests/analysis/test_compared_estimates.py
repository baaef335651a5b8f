"""A straight-through estimate in the loss that was to train what it shows: a codebook without a gradient."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

QUANTIZED = """
import torch
encoder, codes = torch.nn.Linear(3, 2), torch.nn.Parameter(torch.eye(2))
optimizer = torch.optim.SGD([*encoder.parameters(), codes], lr=0.1)
def quantize(z):
    code = codes[torch.cdist(z.detach(), codes.detach()).argmin(1)]
    return code, z + (code - z).detach()
for _ in range(3):
    z = encoder(torch.randn(8, 3))
    code, estimate = quantize(z)
    loss = estimate.square().mean() + torch.nn.functional.mse_loss(estimate, z.detach())  # compares
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def unreached(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]


@pytest.mark.parametrize("term", ["mse_loss(estimate, z.detach())", "relu((estimate - z.detach()).square()).mean()"])
def test_the_line_that_compares_the_estimate_is_the_cause(term: str) -> None:
    source = QUANTIZED.replace("mse_loss(estimate, z.detach())", term)
    (answer,) = unreached(source)
    assert answer.causes[0].line == line_of(source, "# compares")
    assert "compares a straight-through estimate with z, cut off" in answer.text


@pytest.mark.parametrize(
    "drawn",
    [
        "torch.nn.functional.mse_loss(z, code.detach())",
        "(code.detach() - z).square().mean()",
        "torch.nn.functional.mse_loss(z.view(-1), estimate.detach().view(-1))",
    ],
)
def test_the_term_that_draws_the_input_to_the_codes_is_not_the_cause(drawn: str) -> None:
    both = QUANTIZED.replace("    optimizer.zero", f"    loss = loss + {drawn}  # draws\n    optimizer.zero")
    (answer,) = unreached(both)
    assert answer.causes[0].line == line_of(both, "# compares")
    assert line_of(both, "# draws") not in [cause.line for cause in answer.causes]
    laid_out = both.replace("mse_loss(estimate, z.detach())", "mse_loss(estimate.t(), z.t().detach())")
    assert unreached(laid_out)[0].causes[0].line == line_of(both, "# compares")


LEVELS = """
import torch
encoder, tables = torch.nn.Linear(3, 2), [torch.nn.Parameter(torch.randn(4, 2)) for _ in range(2)]
optimizer = torch.optim.SGD([*encoder.parameters(), *tables], lr=0.1)
for _ in range(3):
    left, codes, taken = encoder(torch.randn(8, 3)), [], []
    for table in tables:
        code = table[torch.cdist(left, table).argmin(1)]
        code = left + (code - left).detach()
        codes.append(code)
        taken.append(left)
        left = left - code.detach()
    codes, taken = torch.stack(codes), torch.stack(taken)
    learned = (taken.detach() - codes).pow(2).mean()  # compares
    drawn = (taken - codes.detach()).pow(2).mean()
    loss = codes.sum(0).square().mean() + learned + drawn
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_each_of_several_levels_is_compared_by_the_stack_of_all() -> None:
    answers = unreached(LEVELS)
    assert {answer.causes[0].line for answer in answers} == {line_of(LEVELS, "# compares")}
    kept = LEVELS.replace("        code = left", "        looked_up = code\n        code = left")
    assert unreached(kept.replace("codes.append(code)", "codes.append(looked_up)")) == []


@pytest.mark.parametrize("drawn", ["mse_loss(z, code.detach())", "mse_loss(z, estimate.detach())"])
def test_where_only_that_term_is_there_the_sum_lacks_one_for_the_codebook(drawn: str) -> None:
    source = QUANTIZED.replace("torch.nn.functional.mse_loss(estimate, z.detach())", "pull")
    source = source.replace("    loss =", f"    pull = torch.nn.functional.{drawn}  # draws\n    loss =")
    (answer,) = unreached(source)
    assert answer.causes[0].line == line_of(source, "# compares")
    assert "loss has no term that leads to them in another way" in answer.text
    assert line_of(source, "# draws") not in [cause.line for cause in answer.causes]


def test_a_codebook_that_its_own_term_trains_has_its_gradient() -> None:
    assert unreached(QUANTIZED.replace("mse_loss(estimate, z", "mse_loss(code, z")) == []


def test_what_was_cut_off_before_the_estimate_is_cut_there() -> None:
    source = QUANTIZED.replace("code = codes[", "code = codes.detach()[").replace("argmin(1)]", "argmin(1)]  # cuts")
    (answer,) = unreached(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# cuts")]


def test_an_estimate_that_no_term_draws_its_input_to_is_named_itself() -> None:
    source = QUANTIZED.replace(" + torch.nn.functional.mse_loss(estimate, z.detach())", "")
    (answer,) = unreached(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "return code, z +")]

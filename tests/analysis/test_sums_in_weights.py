"""Averages over models whose sum is made up in the weights of one of them, and what only looks like that."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import copy
import torch
from torch import nn
models, server = [nn.Linear(4, 2) for _ in range(3)], nn.Linear(4, 2)
for round in range(2):
    for model in models:
        model(torch.ones(2, 4)).sum().backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.grad
    states = [model.state_dict() for model in models]  # taken
    average = {begun}  # begun
    for key in average:
        for other in states[1:]:
            {adds}  # adds
        {scales}
    {loads}
"""
AVERAGE = {
    "begun": "states[0]",
    "adds": "average[key] += other[key]",
    "scales": "average[key] = average[key] / 3",
    "loads": "server.load_state_dict(average)",
}


def causes(**parts: str) -> tuple[list[int], list[int]]:
    source = PROGRAM.format(**(AVERAGE | parts))
    answers = [one for one in build(recorded(source)).answers if one.code == "sum-left-in-weights"]
    expected = [line_of(source, "# begun"), line_of(source, "# adds")]
    return [cause.line for answer in answers for cause in answer.causes], expected


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"adds": "average[key].add_(other[key])", "scales": "average[key] = torch.div(average[key], 3)"},
        {"scales": "average[key] = average[key] * (1 / 3)"},
        {"loads": "[model.load_state_dict(average) for model in models[1:]]"},
        {"scales": "average[key] /= 3"},
        {"scales": "average[key].mul_(1 / 3)"},
        {
            "scales": "average[key].div_(3)",
            "loads": "for key, one in server.state_dict().items(): one.copy_(average[key])",
        },
    ],
)
def test_a_model_that_goes_on_with_the_sum(parts: dict[str, str]) -> None:
    lines, expected = causes(**parts)
    assert lines == expected


@pytest.mark.parametrize(
    "parts",
    [
        {"begun": "copy.deepcopy(states[0])"},
        {"begun": "{key: value.clone() for key, value in states[0].items()}"},
        {"adds": "average[key] = average[key] + other[key]"},
        {"scales": "average[key] /= 3", "loads": "models[0](torch.ones(2, 4))"},
        {"scales": "average[key] /= 3", "loads": "[model.load_state_dict(average) for model in (server, *models[1:])]"},
        {
            "scales": "average[key] /= 3",
            "loads": "server.load_state_dict(average); "
            "[model.load_state_dict(server.state_dict()) for model in models]",
        },
        {"scales": "average[key] /= 3", "begun": "copy.deepcopy(states[0])"},
        {"loads": "[model.load_state_dict(average) for model in models]"},
        {"adds": "average[key].mul_(0.5).add_(other[key], alpha=0.5)"},
        {"adds": "average[key] += other[key] - average[key]"},
    ],
)
def test_copies_averages_in_place_and_models_that_are_loaded_from_the_average(parts: dict[str, str]) -> None:
    lines, _ = causes(**parts)
    assert lines == []


def test_what_was_taken_is_the_cause_where_no_second_name_was_given() -> None:
    source = """
    import torch
    from torch import nn
    models = [nn.Linear(4, 2) for _ in range(3)]
    def add_up(average, others):
        for key in average:
            for other in others:
                average[key] += other[key]  # adds
            average[key] = average[key] / 3
        return average
    mean = add_up(models[0].state_dict(), [one.state_dict() for one in models[1:]])  # taken
    models[0](torch.ones(2, 4))
    """
    answers = [one for one in build(recorded(source)).answers if one.code == "sum-left-in-weights"]
    lines = [cause.line for answer in answers for cause in answer.causes]
    assert lines == [line_of(source, "# taken"), line_of(source, "# adds")]

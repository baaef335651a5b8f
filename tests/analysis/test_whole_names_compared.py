"""Groups chosen by whole names where parts are meant; and choices that find what they look for."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

PROGRAM = """
import torch
from torch import nn
torch.manual_seed(0)
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up = nn.LayerNorm(4), nn.Linear(4, 4)
    def forward(self, x):
        return x + self.up(self.norm(x))
model = nn.Sequential(Block(), Block(), nn.Linear(4, 1))
no_decay = {sought}
{groups}
optimizer = torch.optim.AdamW(groups, lr=0.01)
for step in range(3):
    loss = model(torch.randn(8, 4)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
LISTS = """
named = list(model.named_parameters())
decayed = [p for n, p in named if {no}]
others = [p for n, p in named if {yes}]
groups = [{{"params": decayed, "weight_decay": 0.1}}, {{"params": others, "weight_decay": 0.0}}]
"""
LOOP = """
decayed, others = [], []
for n, p in model.named_parameters():
    if {yes}:
        others.append(p)
    else:
        decayed.append(p)
groups = [{{"params": decayed, "weight_decay": 0.1}}, {{"params": others, "weight_decay": 0.0}}]
"""
EACH = """
groups = [{{"params": [p], "weight_decay": 0.0 if {yes} else 0.1}} for n, p in model.named_parameters()]
"""
FUNCTION = """
def groups_of(net):
    others = [p for n, p in net.named_parameters() if {yes}]
    decayed = [p for n, p in net.named_parameters() if {no}]
    return [{{"params": decayed, "weight_decay": 0.1}}, {{"params": others, "weight_decay": 0.0}}]
groups = groups_of(model)
"""
YES, NO = "n in no_decay", "n not in no_decay"


def said(groups: str = LISTS, sought: str = '["bias"]', yes: str = YES, no: str = NO) -> tuple[list[str], str]:
    source = PROGRAM.format(sought=sought, groups=groups.format(yes=yes, no=no))
    answers = [one for one in build(recorded(source)).answers if one.code == "whole-names-compared"]
    lines = source.lstrip().splitlines()
    return [lines[cause.line - 1] for one in answers for cause in one.causes], "".join(one.text for one in answers)


@pytest.mark.parametrize("groups", [LISTS, LOOP, EACH, FUNCTION], ids=["lists", "loop", "each", "function"])
@pytest.mark.parametrize("sought", ['["bias", "norm.weight"]', '("bias",)', '{"bias", "LayerNorm.weight"}'])
def test_a_part_of_names_equals_none(groups: str, sought: str) -> None:
    lines, text = said(groups, sought)
    assert lines == [line for line in groups.format(yes=YES, no=NO).splitlines() if YES in line or NO in line]
    assert '"bias", a part of 5 names,' in text
    assert ("weight_decay=0.1" in text) is (groups is not EACH)


def test_a_comparison_with_one_text() -> None:
    lines, _ = said(LOOP, yes='n == "bias"')
    assert lines == ['    if n == "bias":']


@pytest.mark.parametrize(
    ("sought", "yes", "no"),
    [
        ('["bias"]', "any(d in n for d in no_decay)", "not any(d in n for d in no_decay)"),
        ('"bias"', YES, NO),
        ('["2.bias", "1.up.bias"]', YES, NO),
        ('["bias"]', "n in no_decay or p.ndim < 2", "not (n in no_decay or p.ndim < 2)"),
        ('["bias"]', 'n.split(".")[-1] in no_decay', 'n.split(".")[-1] not in no_decay'),
        ('["LayerNorm.weight"]', YES, NO),
        ('["2"]', "n.startswith(no_decay[0])", "not n.startswith(no_decay[0])"),
    ],
    ids=["parts", "a text", "whole names", "by something else too", "ends", "no part of any", "beginnings"],
)
def test_choices_that_find_what_they_look_for_are_quiet(sought: str, yes: str, no: str) -> None:
    assert said(LISTS, sought, yes, no) == ([], "")


def test_names_within_each_module_are_whole_there() -> None:
    groups = """
decayed, others = [], []
for m in model.modules():
    for n, p in m.named_parameters(recurse=False):
        (others if n in no_decay else decayed).append(p)
groups = [{{"params": decayed, "weight_decay": 0.1}}, {{"params": others, "weight_decay": 0.0}}]
"""
    assert said(groups) == ([], "")


def test_a_choice_for_another_purpose_is_quiet() -> None:
    groups = """
def biases(net):
    return [p for n, p in net.named_parameters() if n in no_decay]
groups = [{{"params": model[:2].parameters(), "weight_decay": 0.1}}, {{"params": model[2].parameters()}}]
print(len(biases(model)))
"""
    assert said(groups) == ([], "")

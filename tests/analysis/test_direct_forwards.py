"""forward of a module that is called in place of the module."""

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = """\
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(2, 2)

    def forward(self, x):
        return torch.tanh(self.line(x))

class Wider(Block):
    def forward(self, x):
        return super().forward(x) * 2

seen = []
def keep(module, given, result):
    seen.append(result)

x = torch.ones(1, 2)
"""


def said(program: str) -> list[list[int]]:
    answers = build(recorded(HEAD + program)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "forward-past-hooks"]


def test_of_the_users_own_module_among_others_that_have_no_hook() -> None:
    program = """
blocks = nn.ModuleList([Block(), Block()])
blocks[1].register_forward_hook(keep)
for block in blocks:
    x = block.forward(x)
"""
    assert said(program) == [[25]]


def test_of_a_module_of_torchs_with_modules_in_it() -> None:
    program = "part = nn.Sequential(nn.Linear(2, 2), nn.ReLU())\npart.register_forward_hook(keep)\npart.forward(x)\n"
    assert said(program) == [[23]]


def test_of_a_module_that_gets_its_hook_after_it_ran() -> None:
    program = """
block = Block()
for step in range(3):
    block.forward(x)
    if step == 0:
        block.register_forward_hook(keep)
"""
    assert said(program) == [[24]]


def test_a_forward_inside_the_modules_call_is_no_finding() -> None:
    program = """
wider = Wider()
wider.register_forward_hook(keep)
wider(x)
line = nn.Linear(2, 2)
line.register_forward_hook(lambda module, given, result: seen.append(module.forward(given[0] * 2)))
plain = line.forward
line.forward = lambda x: plain(x) * 2
line(x)
part = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
part[0].register_forward_hook(keep)
part.forward(x)
"""
    assert said(program) == []

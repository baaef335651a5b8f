"""Models that are made anew under the same name, while the optimizer holds the parameters of the first."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """\
import copy
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.last(self.first(x).tanh())

x = torch.ones(5, 3)
"""
FUNCTION = """
def train():
    for step in range(4):
        optimizer.zero_grad()
        net(x).sum().backward()
        optimizer.step()

net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
{}
train()
"""
TRAINER = """
class Trainer:
    def __init__(self):
        self.net = Net()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)

    def reset(self):
        {}

    def fit(self):
        self.reset()
        for step in range(4):
            self.optimizer.zero_grad()
            self.net(x).sum().backward()
            self.optimizer.step()

Trainer().fit()
"""


def told(program: str) -> list[tuple[str, list[int]]]:
    answers = build(recorded(program)).answers
    return [(one.text, [cause.line for cause in one.causes]) for one in answers if one.code == "never-stepped"]


@pytest.mark.parametrize(
    ("program", "anew", "name"),
    [
        (FUNCTION, "net = Net()  # again", "net"),
        (FUNCTION, "net = copy.deepcopy(net)  # again", "net"),
        (FUNCTION, "kinds = [Net]\nnet = kinds[0]()  # again", "net"),
        (FUNCTION, "def restart():\n    global net\n    net = Net()  # again\nrestart()", "net"),
        (FUNCTION, "net.last = nn.Linear(4, 1)  # again", "net.last"),
        (TRAINER, "self.net = Net()  # again", "self.net"),
    ],
)
def test_the_line_that_makes_the_model_anew_is_named_first(program: str, anew: str, name: str) -> None:
    source = HEAD + program.format(anew)
    line, optimizer = line_of(source, "# again"), line_of(source, "optimizer = torch.optim")
    ((text, causes),) = told(source)
    assert f" makes {name} anew after the SGD of line {optimizer} was made" in text
    assert causes[:2] == [line, optimizer]
    assert len(causes) == 2 or f"line {line}, called at line {causes[2]}, makes" in text


@pytest.mark.parametrize(
    ("program", "anew"),
    [
        (FUNCTION, "net = net.float()"),
        (FUNCTION, "net = Net(); optimizer = torch.optim.SGD(net.parameters(), lr=0.1)"),
        (FUNCTION, "optimizer.add_param_group({'params': (net := Net()).parameters()})"),
        (TRAINER, "self.__init__()"),
    ],
)
def test_a_model_that_the_optimizer_holds_is_stepped(program: str, anew: str) -> None:
    assert told(HEAD + program.format(anew)) == []


def test_of_two_lines_that_may_have_done_it_none_is_named() -> None:
    other = "    def {}(self):\n        self.net = Net()\n\n"
    both = other.format("restore") + other.format("clear")
    twice = TRAINER.format("self.restore()").replace("    def fit", f"{both}    def fit")
    ((text, causes),) = told(HEAD + twice)
    assert "anew" not in text
    assert causes == [line_of(HEAD + twice, "optimizer = torch.optim")]


def test_a_part_that_is_made_later_under_a_name_of_its_own_is_no_model_made_anew() -> None:
    added = FUNCTION.format("head = Net()").replace("net(x).sum()", "head(net(x).expand(5, 3)).sum()")
    ((text, causes),) = told(HEAD + added)
    assert "anew" not in text
    assert causes == [line_of(HEAD + added, "optimizer = torch.optim")]


SHRUNK = """
def shrunk(layer):
    small = nn.Linear(layer.in_features, layer.out_features)
    small.bias = nn.Parameter(layer.bias.detach().clone())
    return small

def compress(net):
    net.first = shrunk(net.first)
    net.last = shrunk(net.last)

{}
"""


def test_all_that_was_made_after_one_optimizer_is_one_answer() -> None:
    program = HEAD + FUNCTION.replace("\n{}\n", SHRUNK.format("train()\ncompress(net)  # once"))
    answers = [one for one in build(recorded(program)).answers if one.severity != "note"]
    assert [one.code for one in answers] == ["never-stepped"]
    made, called = line_of(program, "net.first = shrunk"), line_of(program, "# once")
    assert f"and {made}, called at line {called}, made them later" in answers[0].text
    assert answers[0].causes[0].line == line_of(program, "optimizer = torch.optim")


OF_A_LIBRARY = """
library = {"torch": torch}
exec(compile('''
class Proxies(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.proxies = torch.nn.Parameter(torch.Tensor(3))
    def forward(self, x):
        return (x * self.proxies).sum()
''', "/nowhere/library.py", "exec"), library)
class Trainer:
    def __init__(self):
        self.reset()
        self.optimizer = torch.optim.SGD(self.loss_func.parameters(), lr=0.1)
    def reset(self):
        self.loss_func = library["Proxies"]()  # again
    def fit(self):
        for step in range(4):
            self.optimizer.zero_grad()
            self.loss_func(x).backward()
            self.optimizer.step()
trainer = Trainer()
trainer.fit()
trainer.reset()
trainer.fit()
"""


def test_what_a_library_made_by_no_op_that_was_seen_is_known_by_its_name() -> None:
    source = HEAD + OF_A_LIBRARY
    ((text, causes),) = told(source)
    assert "makes self.loss_func anew after the SGD" in text
    assert causes[0] == line_of(source, "# again")


LATER = """
class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 1)

    def forward(self, h):
        return self.out(h)

def build():
    net = Net()
    {}
    return net, optimizer

net, optimizer = build()
for step in range(4):
    optimizer.zero_grad()
    net(x).sum().backward()
    optimizer.step()
"""
OPTIMIZER = "optimizer = torch.optim.SGD(net.parameters(), lr=0.1)"
REPLACED = "net.last = Head()  # replaced"


def test_a_head_of_a_class_of_the_programs_is_made_where_the_class_is_called() -> None:
    source = HEAD + LATER.format(f"{OPTIMIZER}\n    {REPLACED}")
    ((text, causes),) = told(source)
    assert "made later, at line" in text
    assert line_of(source, "# replaced") in causes
    assert told(HEAD + LATER.format(f"{REPLACED}\n    {OPTIMIZER}")) == []

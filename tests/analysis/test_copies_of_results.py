"""deepcopy of what holds a result: the weight of a rewritten module, the learning rate of an optimizer."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

CODE = "deepcopy-of-result"


def copied(program: str) -> list[Answer]:
    return [one for one in build(recorded(program)).answers if one.code == CODE]


REWRITTEN = """\
import copy, torch
from torch import nn
from torch.nn.utils import spectral_norm, weight_norm, parametrizations, prune
def layer(a, b):
    return spectral_norm(nn.Linear(a, b))  # change
net = nn.Sequential(layer(3, 4), nn.ReLU(), layer(4, 1))
net(torch.ones(2, 3)).mean().backward()
copy.deepcopy(net)
"""
CALL = "return spectral_norm(nn.Linear(a, b))"


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (CALL, "spectral_norm"),
        ("return weight_norm(nn.Linear(a, b))", "weight_norm"),
        ("return prune.l1_unstructured(nn.Linear(a, b), 'weight', 0.5)", "l1_unstructured"),
    ],
)
def test_the_call_that_makes_the_weight_a_result_is_named(call: str, name: str) -> None:
    (answer,) = copied(REWRITTEN.replace(CALL, call))
    assert [cause.line for cause in answer.causes] == [line_of(REWRITTEN, "# change")]
    assert f"the weight that {name} (line 5) puts on the module" in answer.text


@pytest.mark.parametrize(
    "call",
    [
        "return parametrizations.spectral_norm(nn.Linear(a, b))",
        "return parametrizations.weight_norm(nn.Linear(a, b))",
        "return prune.remove(prune.l1_unstructured(nn.Linear(a, b), 'weight', 0.5), 'weight')",
    ],
)
def test_a_module_whose_weight_is_none_can_be_copied(call: str) -> None:
    assert not copied(REWRITTEN.replace(CALL, call))


def test_what_the_program_computes_of_such_a_module_is_its_own() -> None:
    program = REWRITTEN.replace("net(torch", "net.kept = net[0].weight_orig * 2  # kept\nnet.eval()\nnet(torch")
    program = program.replace("net(torch.ones(2, 3)).mean().backward()", "with torch.no_grad(): net(torch.ones(2, 3))")
    (answer,) = copied(program)
    assert [cause.line for cause in answer.causes] == [line_of(program, "# kept")]
    assert "spectral_norm" not in answer.text


RATES = """\
import copy, torch
from torch import nn
class Rate(nn.Module):
    def __init__(self):
        super().__init__()
        self.log = nn.Parameter(torch.tensor(0.1).log())
    def forward(self):
        return self.log.exp()
    @property
    def now(self):
        return self.log.exp()
net, rate = nn.Linear(3, 1), Rate()
opt = torch.optim.SGD(net.parameters(), lr=0.1, foreach=False)
for step in range(3):
    KEEP  # change
    net(torch.ones(2, 3)).mean().backward()
    opt.step()
    opt.zero_grad()
copy.deepcopy(opt.state_dict())
"""


@pytest.mark.parametrize(
    "keep",
    [
        "for group in opt.param_groups: group['lr'] = rate()",
        "opt.param_groups[0]['lr'] = rate.now",
        "opt.param_groups[0].update(lr=rate())",
        "opt = torch.optim.SGD(net.parameters(), lr=rate(), foreach=False)",
        "lr = rate(); opt = torch.optim.SGD(net.parameters(), lr=lr, foreach=False)",
    ],
)
def test_the_statement_that_gives_the_optimizer_the_rate_is_named(keep: str) -> None:
    program = RATES.replace("KEEP", keep)
    (answer,) = copied(program)
    assert [cause.line for cause in answer.causes] == [line_of(program, "# change")]
    assert "(kept at line 15)" in answer.text
    for number in (".item()", ".detach()"):
        assert not copied(program.replace("rate()", f"rate(){number}").replace("rate.now", f"rate.now{number}"))

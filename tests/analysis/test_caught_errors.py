"""What torch refused and the program caught: asked for, or the program went on without it."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = "import torch\nfrom torch import nn\np = torch.ones(3, 2, requires_grad=True)\n"
PRINTED = "except RuntimeError as error:\n    print('failed:', error)\n"


def said(program: str) -> list[tuple[str, str, list[int]]]:
    answers = build(recorded(HEAD + program)).answers
    codes = ("inplace-refused", "inference-tensor")
    return [(one.code, one.severity, [cause.line for cause in one.causes]) for one in answers if one.code in codes]


@pytest.mark.parametrize(
    "program",
    [
        f"def limit():\n    p.clamp_(0, 1)\ntry:\n    limit()\n{PRINTED}",
        f"try:\n    for step in range(2):\n        y = p * 2\n        p.mul_(y)\n{PRINTED}",
        "def limit():\n    p.clamp_(0, 1)\ntry:\n    limit()\nexcept Exception:\n    pass\n",
        "def limit():\n    try:\n        p.clamp_(0, 1)\n    except RuntimeError:\n        raise\n"
        f"try:\n    limit()\n{PRINTED}",
    ],
)
def test_a_write_that_the_program_went_on_without_is_a_warning(program: str) -> None:
    ((code, severity, _),) = said(program)
    assert (code, severity) == ("inplace-refused", "warning")


@pytest.mark.parametrize(
    "program",
    [
        f"try:\n    p.mul_(2)\n{PRINTED}",
        f"try:\n    y = p.exp()\n    p.add_(1)\n    y.sum().backward()\n{PRINTED}",
        "def attempt(call):\n    try:\n        call()\n    except RuntimeError:\n        pass\n"
        "attempt(lambda: p.add_(1))",
        "def grow():\n    p.add_(1)\ntry:\n    grow()\nexcept RuntimeError:\n    p = p + 1\n",
        "def grow():\n    p.add_(1)\nfor check in (grow,):\n    try:\n        check()\n"
        "    except RuntimeError:\n        pass\n",
        "import contextlib\nwith contextlib.suppress(RuntimeError):\n    p.mul_(2)\n",
    ],
)
def test_one_that_was_asked_for_is_a_note(program: str) -> None:
    ((code, severity, _),) = said(program)
    assert (code, severity) == ("inplace-refused", "note")


def test_behind_a_full_backward_hook_the_module_that_writes_and_the_hook_are_named() -> None:
    program = """\
class Unit(nn.Module):
    def __init__(self):
        super().__init__()
        self.line, self.other = nn.Linear(2, 2), nn.ReLU(inplace=True)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.line(x))

unit = Unit()
unit.line.register_full_backward_hook(lambda *_: None)
unit(torch.ones(1, 2)).sum().backward()
"""
    ((code, severity, lines),) = said(program)
    assert (code, severity, lines) == ("inplace-refused", "problem", [8, 14, 11])


def test_of_several_that_write_in_a_chain_the_one_behind_the_hooked_module_is_named() -> None:
    program = """\
class Unit(nn.Module):
    def __init__(self):
        super().__init__()
        self.chain = nn.Sequential(
            nn.Linear(2, 2),
            nn.ReLU(inplace=True),
            nn.Linear(2, 2),
            nn.Dropout(0.0, inplace=True),
            nn.ReLU(inplace=True),
            nn.Linear(2, 2),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.chain(x)

unit = Unit().eval()
unit(torch.ones(1, 2))
unit.chain[2].register_full_backward_hook(lambda *_: None)
unit(torch.ones(1, 2)).sum().backward()
"""
    ((code, _, lines),) = said(program)
    assert (code, lines) == ("inplace-refused", [12, 22, 18])


def test_of_a_view_that_a_function_gave_the_return_of_its_forward_is_named() -> None:
    program = """\
class Same(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return grad

h = Same.apply(p * 2)
h += 1
"""
    assert said(program) == [("inplace-refused", "problem", [7, 14])]


def test_an_optimizer_that_is_refused_is_told_of_where_the_program_caught_it() -> None:
    program = (
        "def fit():\n    torch.optim.SGD([p * 2], lr=0.1)\ntry:\n    fit()\nexcept ValueError as e:\n    print(e)\n"
    )
    answers = build(recorded(HEAD + program)).answers
    ((code, severity, lines),) = [(one.code, one.severity, [cause.line for cause in one.causes]) for one in answers]
    assert (code, severity, lines) == ("refused-by-autograd", "warning", [5])

"""What a helper writes between a forward pass and its backward: the call that comes too early is named."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
import torch.nn.functional as F
from contextlib import contextmanager
from torch import nn
torch.manual_seed(0)
class Binary:
    def __init__(self, net):
        self.params = [one.weight for one in net if isinstance(one, nn.Linear)]
        self.real = [torch.empty_like(one) for one in self.params]
    def binarize(self):
        for one, real in zip(self.params, self.real):
            real.copy_(one.data)
            one.data.copy_(real.sign())
    def restore(self):
        for one, real in zip(self.params, self.real):
            one.data.copy_(real)  # writes
    @contextmanager
    def weights(self):
        self.binarize()
        yield
        self.restore()
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    def forward(self, x):
        return self.layers(x)
net, x, y = Net(), torch.randn(6, 4), torch.randint(0, 3, (6,))
binary, opt = Binary(net.layers), torch.optim.SGD(net.parameters(), lr=0.1)
"""
METHODS = """
class Trainer:
    def evaluate(self):
        binary.binarize()
        loss = F.cross_entropy(net(x), y)
        binary.restore()  # calls
        return loss
    def step(self):
        loss = self.evaluate()
        opt.zero_grad()
        loss.backward()
        opt.step()
Trainer().step()
"""
FUNCTIONS = """
def back():
    binary.restore()
def step():
    binary.binarize()
    loss = F.cross_entropy(net(x), y)
    opt.zero_grad()
    back()  # calls
    loss.backward()
    opt.step()
for _ in range(2):
    step()
"""
MODULE = """
binary.binarize()
loss = F.cross_entropy(net(x), y)
binary.restore()  # calls
loss.backward()
"""
BLOCK = """
def evaluate():
    with binary.weights():  # calls
        return F.cross_entropy(net(x), y)
evaluate().backward()
"""
OBJECT = """
class Swapped:
    def __enter__(self):
        binary.binarize()
    def __exit__(self, *error):
        binary.restore()
def evaluate():
    with Swapped():  # calls
        return F.cross_entropy(net(x), y)
evaluate().backward()
"""
ALSO_ELSEWHERE = METHODS.replace(
    "Trainer().step()",
    "def validate():\n    binary.binarize()\n    with torch.no_grad():\n        print(net(x).sum().item())\n"
    "    binary.restore()\nTrainer().step()\nvalidate()",
)
FORMS = {
    "methods": METHODS,
    "functions": FUNCTIONS,
    "module": MODULE,
    "block": BLOCK,
    "object": OBJECT,
    "also-elsewhere": ALSO_ELSEWHERE,
}


def problems(source: str) -> list[tuple[str, list[int], str]]:
    answers = [one for one in build(recorded(source)).answers if one.severity == "problem"]
    return [(one.code, [cause.line for cause in one.causes], one.text) for one in answers]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_call_that_comes_before_backward_is_named_first(form: str) -> None:
    source = HEAD + form
    ((code, lines, text),) = problems(source)
    assert code == "gradient-silently-wrong"
    assert lines[:2] == [line_of(source, "# calls"), line_of(source, "# writes")]
    assert f"(line {lines[0]})" in text


def test_so_it_is_where_autograd_notices() -> None:
    source = HEAD.replace(
        "one.data.copy_(real)  # writes", "\n            with torch.no_grad(): one.copy_(real)  # writes"
    )
    ((code, lines, _),) = problems(source + METHODS)
    assert code == "inplace-error"
    assert lines[:2] == [line_of(source + METHODS, "# calls"), line_of(source + METHODS, "# writes")]


MEMORY = """
import torch
from torch import nn
encoder, queue = nn.Linear(4, 4), torch.randn(4, 8)
def enqueue(keys):
    queue[:, :2] = keys.detach().T  # writes
def loss_of(x):
    q = encoder(x)
    loss = (q @ queue).logsumexp(1).mean()
    enqueue(q)  # calls
    return loss
loss_of(torch.randn(2, 4)).backward()
"""


def test_a_memory_that_takes_new_entries_before_backward() -> None:
    ((code, lines, _),) = problems(MEMORY)
    assert code == "inplace-error"
    assert lines == [line_of(MEMORY, "# calls"), line_of(MEMORY, "# writes"), line_of(MEMORY, "loss = (q")]


@pytest.mark.parametrize(
    "form",
    [
        "binary.binarize()\nloss = F.cross_entropy(net(x), y)\n"
        "for one, real in zip(binary.params, binary.real):\n    one.data.copy_(real)\nloss.backward()",
        "def evaluate():\n    binary.binarize()\n    loss = F.cross_entropy(net(x), y)\n"
        "    (binary.restore if len(binary.real) else print)()\n    return loss\nevaluate().backward()",
        "def evaluate(early):\n    binary.binarize()\n    loss = F.cross_entropy(net(x), y)\n"
        "    if early: binary.restore()\n    return loss\n"
        "def between():\n    binary.restore()\n"
        "def step():\n    loss = evaluate(False)\n    between()\n    loss.backward()\nstep()",
    ],
)
def test_where_it_is_not_sure_which_call_it_was_only_the_write_is_named(form: str) -> None:
    ((_, lines, text),) = problems(HEAD + "\n" + form)
    assert "has that done" not in text
    assert len(lines) == 2


@pytest.mark.parametrize(
    "write",
    ["h.mul_(0.5)", "h.data.mul_(0.5)"],
)
def test_a_helper_that_writes_what_was_computed_on_the_way_is_itself_what_is_wrong(write: str) -> None:
    source = f"""
import torch
def halve(h):
    {write}  # writes
w = torch.ones(3, requires_grad=True)
h = w.exp()
halve(h)
h.sum().backward()
"""
    ((_, lines, _),) = problems(source)
    assert lines == [line_of(source, "# writes"), line_of(source, "w.exp()")]


def test_after_backward_it_may_be_called() -> None:
    source = HEAD + FUNCTIONS.replace("    back()  # calls\n", "").replace("backward()\n", "backward()\n    back()\n")
    assert problems(source) == []

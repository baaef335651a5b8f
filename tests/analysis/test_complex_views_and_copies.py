"""Complex values in real memory, gradients of other views, copies of results: healthy variants stay silent."""

import re

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = "import copy\nimport torch\n"
CODES = {"imaginary-part-lost", "grad-of-other-view", "deepcopy-of-result"}


def causes(program: str) -> dict[str, list[int]]:
    answers = build(recorded(HEAD + program)).answers
    return {one.code: [cause.line for cause in one.causes] for one in answers if one.code in CODES}


@pytest.mark.parametrize(
    "program",
    [
        "z = torch.ones(3, dtype=torch.complex64)\nx = torch.zeros(3)\nx[:] = z.real\nx.copy_(z.abs())",
        "z = torch.zeros(3, dtype=torch.complex64)\nz[:] = torch.ones(3)",
        "p = torch.ones(3, 2, requires_grad=True)\nr = p.unbind()\ntorch.autograd.grad(torch.stack(r).sum(), r)",
        "p, q = (torch.ones(3, requires_grad=True) for _ in 'ab')\nv = q[0]\n"
        "torch.autograd.grad(p.sum(), [p, v], allow_unused=True)",
        "n = torch.nn.Linear(2, 2)\nn.seen = n(torch.ones(2)).detach()\ncopy.deepcopy(n)",
        "x = torch.ones(4, requires_grad=True)\ntorch.fft.ifft(torch.fft.fft(x) * 2j).to(x.dtype).sum().backward()",
        "z = torch.ones(3, dtype=torch.complex64, requires_grad=True)\n(z * z.conj()).float().sum().backward()",
        "x = torch.ones(4, requires_grad=True)\nu, v = (torch.fft.ifft(torch.fft.fft(x)) for _ in 'ab')\n"
        "(u * v).to(x.dtype).sum().backward()",
        "z = torch.ones(3, dtype=torch.complex64)\nz.to(torch.float32)",
    ],
    ids=[
        "real-part",
        "real-into-complex",
        "views-first",
        "not-of-the-loss",
        "detached",
        "inverse",
        "norm",
        "both",
        "data",
    ],
)
def test_healthy_programs_are_left_alone(program: str) -> None:
    assert causes(program) == {}


def test_what_forward_put_on_the_module_is_named_though_no_call_stands_there() -> None:
    program = (
        "class Net(torch.nn.Linear):\n    def forward(self, x):\n        y = super().forward(x)\n"
        "        self.seen = y\n        return y\n"
        "net = Net(2, 2)\nnet(torch.ones(2))\ncopy.deepcopy(net)"
    )
    assert causes(program) == {"deepcopy-of-result": [6]}


TRAINER = """
class Meter:
    def __init__(self):
        self.rows, self.state, self.best = [], {}, None
    def loss(self):
        return w.exp().sum()
    def step(self):
        loss = w.exp().sum()
        loss.backward()
        KEEP
w, meter = torch.ones(3, requires_grad=True), Meter()
meter.step()
copy.deepcopy(meter)
"""


@pytest.mark.parametrize(
    "keep",
    [
        "self.best = loss",
        "self.best = self.last = loss",
        "self.rows.append(loss)",
        "self.rows.append((len(self.rows), loss))",
        "self.state.update(step=1, score=loss)",
        "self.state.update({'score': loss})",
        "self.state['score'] = loss",
        "self.state = {'score': loss, 'step': 1}",
        "self.state = dict(score=loss)",
        "self.state.setdefault('score', []).append(loss)",
        "setattr(self, 'score', loss)",
        "self.best = self.loss()",
        "self.rows.append(self.loss())",
        "kept = []; kept.append(loss); self.best = loss",
    ],
)
def test_the_statement_that_keeps_the_result_is_named_not_the_one_that_made_it(keep: str) -> None:
    program = TRAINER.replace("KEEP", keep)
    line = (HEAD + program).split("\n").index(f"        {keep}") + 1
    answers = [one for one in build(recorded(HEAD + program)).answers if one.code == "deepcopy-of-result"]
    assert [[cause.line for cause in one.causes] for one in answers] == [[line]]
    assert all(f"(kept at line {line})" in one.text for one in answers)
    kept = "self.loss()" if "self.loss()" in keep else r"\bloss\b"
    detached = re.sub(kept.replace("()", r"\(\)"), lambda found: f"{found[0]}.detach()", keep)
    assert detached != keep
    assert causes(TRAINER.replace("KEEP", detached)) == {}


def test_a_call_that_copies_a_module_is_put_down_to_the_result_on_it_not_to_a_parameter() -> None:
    program = """
class Net(torch.nn.Linear):
    def scaled(self):
        return self.weight * 2
    def forward(self, x):
        self.used = self.scaled()
        return torch.nn.functional.linear(x, self.used, self.bias)
net = Net(2, 2)
net(torch.ones(2)).sum().backward()
torch.optim.swa_utils.AveragedModel(net)
"""
    (answer,) = [one for one in build(recorded(HEAD + program)).answers if one.code == "deepcopy-of-result"]
    assert [cause.line for cause in answer.causes] == [8]
    assert "used (kept at line 8) is a result with a graph (MulBackward0)" in answer.text


def test_what_a_forward_hook_keeps_is_named_by_the_hook() -> None:
    program = """
def keep(module, inputs, output):
    module.seen = output
net = torch.nn.Sequential(torch.nn.Linear(2, 2))
net[0].register_forward_hook(keep)
net(torch.ones(2)).sum().backward()
copy.deepcopy(net)
"""
    assert causes(program) == {"deepcopy-of-result": [5]}
    assert causes(program.replace("= output", "= output.detach()")) == {}


def test_the_weight_of_a_weight_norm_is_put_down_to_it() -> None:
    program = """
net = torch.nn.utils.weight_norm(torch.nn.Linear(2, 2))
net(torch.ones(2)).sum().backward()
copy.deepcopy(net)
"""
    assert causes(program) == {"deepcopy-of-result": [4]}
    assert causes(program.replace("utils.weight", "utils.parametrizations.weight")) == {}


def test_a_result_that_is_copied_itself_is_put_down_to_the_copy() -> None:
    assert causes("y = torch.ones(2, requires_grad=True) * 2\nz = copy.deepcopy(y)") == {"deepcopy-of-result": [4]}


def test_grad_that_raises_for_another_view_is_a_problem() -> None:
    program = "p = torch.ones(3, requires_grad=True)\nv = p[0]\ntorch.autograd.grad(p.sum(), v)"
    assert causes(program) == {"grad-of-other-view": [4]}


@pytest.mark.parametrize("cast", ["to(torch.float32)", "float()", "double()"])
def test_a_cast_of_tracked_complex_values_to_a_real_dtype_is_named(cast: str) -> None:
    program = (
        f"k = torch.ones(3, requires_grad=True)\nturn = torch.polar(torch.ones(3), k)\nturn.{cast}.sum().backward()"
    )
    assert causes(program) == {"imaginary-part-lost": [5]}


def test_what_an_inverse_transform_gave_is_complex_again_after_a_phase() -> None:
    program = (
        "x, k = torch.ones(4), torch.ones(4, requires_grad=True)\nfield = torch.fft.ifft(torch.fft.fft(x) * 2j)\n"
        "(field * torch.exp(1j * k)).to(x.dtype).sum().backward()"
    )
    assert causes(program) == {"imaginary-part-lost": [5]}


def test_memory_alike_to_real_memory_is_real_by_what_made_that() -> None:
    program = (
        "k = torch.ones(3, requires_grad=True)\nkept = torch.zeros(3)\nfor _ in range(2):\n"
        "    turned = torch.empty_like(kept)\n    turned[:] = torch.polar(kept, k)\n    kept = turned.flatten()"
    )
    assert causes(program) == {"imaginary-part-lost": [4, 6, 7]}


def test_a_hook_that_keeps_the_output_on_its_module() -> None:
    program = (
        "def tap(module, inputs, output):\n    module.seen = output\n"
        "class Net(torch.nn.Module):\n    def __init__(self, width, depth, last):\n        super().__init__()\n"
        "        self.last = last\n        self.body = torch.nn.Linear(width, depth)\n"
        "    def forward(self, x):\n        return self.body(x)\n"
        "net = Net(2, 3, 4)\nnet.body.register_forward_hook(tap)\nnet(torch.ones(2))\ncopy.deepcopy(net)"
    )
    assert causes(program) == {"deepcopy-of-result": [4]}


ROTARY = """
class Rotary(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.out = torch.nn.Linear(3, 3)
        self.turn = torch.nn.Parameter(torch.polar(torch.ones(3), torch.ones(3)))
        self.register_buffer("start", torch.polar(torch.ones(2), torch.ones(2)))
net = Rotary()
"""


@pytest.mark.parametrize(
    "cast", ["to(torch.float32)", "to('cpu', torch.float64)", "to(net.out.weight)", "type('torch.FloatTensor')"]
)
def test_a_module_that_is_cast_with_its_complex_parameters_and_buffers(cast: str) -> None:
    program = f"{ROTARY}net.{cast}\n"
    assert causes(program) == {"imaginary-part-lost": [11]}
    sentence = next(one.text for one in build(recorded(HEAD + program)).answers if one.code in CODES)
    assert "net.turn and net.start, which are complex" in sentence, sentence


@pytest.mark.parametrize(
    "move", ["to('cpu')", "float()", "double()", "half()", "to(torch.complex64)", "out.to(torch.float64)"]
)
def test_a_module_whose_complex_parameters_stay_complex(move: str) -> None:
    assert causes(f"{ROTARY}net.{move}\n") == {}

"""Errors of autograd's that are no error in backward itself: which line is to change, and for which tensor."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = "import torch\nimport numpy as np\nw = torch.ones(3, 2, requires_grad=True)\n"
CODES = {
    "asked-for-gradient",
    "backward-no-grad",
    "cannot-require-grad",
    "gradient-does-not-fit",
    "inplace-refused",
    "tracked-refused",
}
FUNCTION = """
class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return {}
    @staticmethod
    def backward(ctx, grad):
        return {}
"""


def said(program: str) -> list[tuple[str, str, list[int]]]:
    answers = build(recorded(HEAD + program)).answers
    return [(one.code, one.severity, [cause.line for cause in one.causes]) for one in answers if one.code in CODES]


@pytest.mark.parametrize(
    ("program", "code", "lines"),
    [
        pytest.param("y = w * 2\ny.numpy()", "tracked-refused", [5], id="numpy"),
        pytest.param(
            "kept = []\nkept.append((w * 2).sum())\nnp.array(kept)", "tracked-refused", [5, 6], id="an array of a list"
        ),
        pytest.param(
            "x = torch.ones(2)\ny = (x @ w.T).sum()\nx.requires_grad_()\ntorch.autograd.grad(y, x)",
            "asked-for-gradient",
            [6, 5],
            id="set after its use",
        ),
        pytest.param("out = torch.empty(3, 2)\ntorch.mul(w, 2, out=out)", "tracked-refused", [5], id="out="),
        pytest.param("n = torch.arange(3)\nn.requires_grad_()", "cannot-require-grad", [4, 5], id="integers"),
        pytest.param("y = w * 2\ny.requires_grad = False", "cannot-require-grad", [5, 4], id="a result"),
        pytest.param("g = torch.ones(2)\nw.grad = g", "gradient-does-not-fit", [4, 5], id="a gradient put into .grad"),
        pytest.param("g = torch.ones(2)\n(w * 2).backward(g)", "gradient-does-not-fit", [4, 5], id="of another shape"),
        pytest.param(
            FUNCTION.format("x * 2", "grad[0]") + "Doubled.apply(w).sum().backward()",
            "gradient-does-not-fit",
            [11],
            id="returned by a Function",
        ),
        pytest.param(
            FUNCTION.format("x.view_as(x)", "grad") + "y = Doubled.apply(w * 1)\ny += 1",
            "inplace-refused",
            [8, 13],
            id="a view that a Function gave",
        ),
        pytest.param(
            "e = torch.zeros(1, 2).expand(3, 2)\ne[:, 0] -= 1.0", "inplace-refused", [4, 5], id="a part of an expansion"
        ),
        pytest.param(
            "y = w.sum()\nw = w * 1\ntorch.autograd.grad(y, w)", "asked-for-gradient", [5], id="a name given anew"
        ),
        pytest.param(
            "t = torch.ones(1, requires_grad=True)\ny = w.sum()\ntorch.autograd.grad(y, (w, t))",
            "asked-for-gradient",
            [6],
            id="a leaf that nothing uses",
        ),
        pytest.param(
            "with torch.no_grad():\n    y = w * 2\ntorch.autograd.grad((w * y).sum(), y)",
            "asked-for-gradient",
            [4],
            id="a tensor that was cut off",
        ),
        pytest.param(
            "x = torch.ones(3, 2)\ntorch.autograd.grad((w * x).sum(), x)",
            "asked-for-gradient",
            [4, 5],
            id="an input that does not require grad",
        ),
        pytest.param(
            "w.requires_grad = False\nloss = w.sum()\nloss.backward()", "backward-no-grad", [4], id="a frozen leaf"
        ),
        pytest.param(
            "kept = [row.sum().item() for row in w]\nloss = torch.tensor(kept).mean()\nloss.backward()",
            "backward-no-grad",
            [4, 5],
            id="numbers put together",
        ),
    ],
)
def test_the_line_to_change_is_named(program: str, code: str, lines: list[int]) -> None:
    assert said(program) == [(code, "problem", lines)]


def test_a_parameter_of_integers_is_named_where_it_ended_the_program() -> None:
    recording = recorded(HEAD + "index = torch.arange(4)\np = torch.nn.Parameter(index)")
    recording.info.outcome.file, recording.info.outcome.line = 0, 5
    (answer,) = [one for one in build(recording).answers if one.code == "cannot-require-grad"]
    assert [cause.line for cause in answer.causes] == [4, 5]


def test_a_view_of_what_was_used_is_left_to_its_own_diagnosis() -> None:
    assert said("y = w.sum()\nv = w[:, 0]\ntorch.autograd.grad(y, v)") == []


def test_what_is_only_added_to_the_output_of_a_penalty_gets_no_gradient_from_it() -> None:
    """The gradient of ``w * x + b`` by ``x`` is ``w``, whatever ``b``."""
    program = """
b, x = torch.ones(1, requires_grad=True), torch.ones(3, 2, requires_grad=True)
(slope,) = torch.autograd.grad((w.tanh() * x + b).sum(), x, create_graph=True)
slope.pow(2).sum().backward()
"""
    answers = build(recorded(HEAD + program)).answers
    assert {one.severity for one in answers if one.code == "leaf-unreached"} <= {"note"}
    assert any("used for the gradient of line 6" in one.text for one in answers)


def test_a_compiled_function_whose_graph_is_to_be_kept() -> None:
    """Of its text only: the error is what torch raises, and compiling takes seconds."""
    program = """
decode = torch.compile(lambda x: x * 2, disable=True)
def backward(grad):
    raise RuntimeError("This backward function was compiled with non-empty donated buffers which requires ...")
y = decode(w)
y.register_hook(backward)
y.sum().backward(retain_graph=True)
"""
    (answer,) = [one for one in build(recorded(HEAD + program)).answers if one.code == "compiled-backward"]
    assert [cause.line for cause in answer.causes] == [5, 10]


BESIDE = """
import torch
from torch.nn.utils import parameters_to_vector
net = torch.nn.Linear(3, 1)
a, b = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
"""


@pytest.mark.parametrize(
    "program",
    [
        "u = net(torch.ones(3)).sum()\nv = parameters_to_vector(net.parameters())  # here\n",
        "u = a.exp().sum()\nv = a * 1.0  # here\n",
        "u = (a * b).sum()\nv = torch.cat([a, b])  # here\n",
    ],
)
def test_a_gradient_is_none_for_what_was_made_beside_the_way(program: str) -> None:
    source = BESIDE + program + "(slope,) = torch.autograd.grad(u, v, allow_unused=True)"
    answers = [one for one in build(recorded(source)).answers if one.code == "asked-for-gradient"]
    assert [(one.severity, one.causes[0].line) for one in answers] == [("warning", line_of(source, "# here"))]


@pytest.mark.parametrize(
    "program",
    [
        "v = a * 1.0\nu = v.exp().sum()\ntorch.autograd.grad(u, v, allow_unused=True)",
        "u = a.exp().sum()\ntorch.autograd.grad(u, b, allow_unused=True)",  # it is no part of it, as was allowed for
        "first, second = a * 1.0, b * 2.0\nu = first.sum()\n"
        "torch.autograd.grad(u, [first, second], allow_unused=True)",  # of several features some are used
        "u = a.exp().sum()\nv = b * 1.0\ntorch.autograd.grad(u, v, allow_unused=True)",
    ],
)
def test_a_gradient_that_may_be_none_is_not_told(program: str) -> None:
    assert not [one for one in build(recorded(BESIDE + program)).answers if one.code == "asked-for-gradient"]


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        ("import torch.multiprocessing as mp\nq = mp.get_context('fork').SimpleQueue()\ny = w * 2\nq.put(y)", [7]),
        ("import torch.multiprocessing as mp\na, b = mp.Pipe()\nfor row in w:\n    a.send((0, row.exp()))", [7]),
        (
            "import torch.multiprocessing as mp\n"
            "def publish(queue, value):\n    queue.put(value)\n"
            "publish(mp.get_context('fork').SimpleQueue(), w.exp())",
            [6],
        ),
    ],
)
def test_what_is_handed_to_another_process_is_named_where_it_is(program: str, lines: list[int]):
    assert said(program) == [("tracked-refused", "problem", lines)]


def test_what_has_no_graph_goes_to_another_process():
    queue = "import torch.multiprocessing as mp\nqueue = mp.get_context('fork').SimpleQueue()\n"
    assert said(queue + "queue.put((w * 2).detach())\nqueue.get()") == []

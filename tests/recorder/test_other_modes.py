"""Function modes of the program's own, and torch's: what they hand on is called where the program calls it."""

import pytest

from gradscope.recording import Recording
from tests.analysis.building import line_of, recorded

CONTEXTS = {
    "torch.device": "context = torch.device('cpu')",
    "own": """
class Log(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        seen.append(func)
        return func(*args, **(kwargs or {}))
seen = []
context = Log()
""",
    "by its base": """
class Log(BaseTorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return super().__torch_function__(func, types, args, kwargs or {})
context = Log()
""",
}
HEAD = """
import torch
from torch.nn import functional as F
from torch.overrides import BaseTorchFunctionMode, TorchFunctionMode
"""
BODY = """
w = torch.ones(3, requires_grad=True)
with context, torch.device("cpu"):
    y = w * 2
    d = y.detach()
    loss = F.mse_loss(y, torch.zeros(3))
"""


def ops_at(recording: Recording, line: int) -> list[str]:
    """The functions called at a line."""
    return [recording.text(op.func) for op in recording.ops if recording.spans[op.span].line == line]


@pytest.mark.parametrize("context", CONTEXTS)
def test_what_a_mode_hands_on_is_called_at_the_line_under_it(context: str) -> None:
    source = HEAD + CONTEXTS[context] + BODY
    recording = recorded(source)
    assert ops_at(recording, line_of(source, "y = w")) == ["Tensor.mul"]
    assert ops_at(recording, line_of(source, "d = y")) == ["Tensor.detach"]
    assert ops_at(recording, line_of(source, "loss =")) == ["torch.zeros", "F.mse_loss"]


def test_what_a_mode_calls_for_itself_is_called_in_the_mode() -> None:
    source = (
        HEAD
        + """
class Double(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        return torch.add(result, result) if func is torch.Tensor.exp else result
x = torch.ones(3)
with Double():
    y = x.exp()
"""
    )
    recording = recorded(source)
    assert ops_at(recording, line_of(source, "y = x")) == ["Tensor.exp"]
    assert ops_at(recording, line_of(source, "return torch.add")) == ["torch.add"]


def test_a_module_made_under_a_device_is_one_call() -> None:
    source = "import torch\nwith torch.device('meta'):\n    layer = torch.nn.Linear(2, 3)\n"
    assert set(ops_at(recorded(source), 3)) == {"nn.Linear.__init__"}

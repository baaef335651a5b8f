"""A pass that a helper of the program's calls for its caller stands at the caller's line."""

from __future__ import annotations

import pytest

from tests.analysis.building import recorded
from tests.recorder.reading import line_of, op_named

_PROGRAM = """\
import torch

class Engine:
    scaler = None
    steps = 2
{helper}

w = torch.ones(2, requires_grad=True)
Engine().backward((w * w).sum(){given})
"""
_SCALED = '''
    def backward(self, loss, **options):
        """Divides and scales a loss."""
        loss = loss / self.steps
        if self.scaler is not None:
            self.scaler.scale(loss).backward(**options)
        else:
            loss.backward(**options)
'''
_PLAIN = """
    def backward(self, loss):
        loss.backward()
"""
_DECIDES = """
    def backward(self, loss):
        loss.backward(retain_graph=True)
"""
_STEPS = """
    def backward(self, loss):
        loss.backward()
        w.grad.zero_()
"""
_ANOTHER = """
    def backward(self, loss):
        (w * loss).sum().backward()
"""


@pytest.mark.parametrize(
    ("helper", "given", "line"),
    [
        (_PLAIN, "", "Engine().backward((w * w).sum())"),
        (_SCALED, ", retain_graph=True", "Engine().backward((w * w).sum(), retain_graph=True)"),
        (_DECIDES, "", "loss.backward(retain_graph=True)"),
        (_STEPS, "", "loss.backward()"),
        (_ANOTHER, "", "(w * loss).sum().backward()"),
    ],
)
def test_a_pass_stands_where_it_is_decided(helper: str, given: str, line: str) -> None:
    recording = recorded(_PROGRAM.format(helper=helper.strip("\n"), given=given))
    assert line_of(recording, op_named(recording, "Tensor.backward")[1]) == line


def test_an_error_of_the_pass_stands_there_too() -> None:
    program = _PROGRAM.format(helper=_PLAIN.strip("\n"), given="") + "Engine().backward(torch.ones(()))\n"
    recording = recorded(program)
    assert line_of(recording, op_named(recording, "Tensor.backward", 1)[1]) == "Engine().backward(torch.ones(()))"

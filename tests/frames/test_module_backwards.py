"""A ``backward`` that a module has: found where no line gives it anything, and it is no hook of a framework's."""

from __future__ import annotations

import pytest

from gradscope.frames.modules.module_backwards import module_backwards

REVERSAL = """
class Reversal(nn.Module):
    def forward(self, x):
        return x

    def backward(self, grad_output):
        return -grad_output

loss = model(Reversal()(x)).sum()
loss.backward()
"""


def test_it_is_found_with_its_line() -> None:
    (found,) = module_backwards(REVERSAL)
    assert (found.name, found.line) == ("Reversal", 6)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Reversal(nn.Module):", "Block(nn.Module):\n    pass\n\nclass Reversal(Block):"),
        ("loss.backward()", "torch.autograd.backward(loss)"),
    ],
)
def test_a_base_of_the_files_own_and_a_pass_by_its_function_change_nothing(old: str, new: str) -> None:
    assert [one.name for one in module_backwards(REVERSAL.replace(old, new))] == ["Reversal"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("nn.Module", "torch.autograd.Function"),
        ("nn.Module", "LightningModule"),
        ("grad_output", "loss"),
        ("loss.backward()", "layer.backward(grad)"),
        ("def forward", "def predict"),
        ("def backward", "def reversed"),
    ],
)
def test_functions_frameworks_and_backwards_that_are_called_are_none(old: str, new: str) -> None:
    assert module_backwards(REVERSAL.replace(old, new)) == []

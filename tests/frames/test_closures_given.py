"""The function that an optimizer's step is given, where it returns nothing."""

from __future__ import annotations

from gradscope.frames.called_by_torch.closures_given import closure_without_result

CLOSURE = "def closure():\n    loss = f()\n    loss.backward()\n"


def test_a_closure_that_returns_nothing():
    assert closure_without_result(f"{CLOSURE}opt.step(closure)", 4) == (1, 3, 3)
    assert closure_without_result(f"{CLOSURE}    return\nopt.step(self.closure)", 5) == (1, 4, 4)


def test_one_that_returns_the_loss_and_a_step_without_one():
    assert closure_without_result(f"{CLOSURE}    return loss\nopt.step(closure)", 5) is None
    assert closure_without_result(f"{CLOSURE}opt.step()", 4) is None

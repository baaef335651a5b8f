"""Keys of functional_call that are no names of the module, which runs with its own parameters then."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.recording.rows import EventKind
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import stateless
net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
x = torch.rand(5, 3)
for step in range(3):
    own = dict(net.named_parameters())
    loss = functional_call(net, own, (x,)).pow(2).mean()
    grads = torch.autograd.grad(loss, own.values(), create_graph=True)
    fast = {{{keys}: w - 0.1 * g for (k, w), g in zip(own.items(), grads)}}  # computes
    {call}  # calls
"""
CALL = "functional_call(net, fast, (x,)).pow(2).mean().backward()"
WRONG = ["k.replace('.', '_')", "'net.' + k", "'module.' + k", "k.removeprefix('2.')"]


def found(keys: str, call: str = CALL) -> tuple[list[int], str, str]:
    source = PROGRAM.format(keys=keys, call=call)
    answers = [one for one in build(recorded(source)).answers if one.code == "function-of-other-parameters"]
    return [cause.line for one in answers for cause in one.causes], source, " ".join(one.text for one in answers)


@pytest.mark.parametrize("keys", WRONG)
@pytest.mark.parametrize(
    "call",
    [
        CALL,
        "stateless._functional_call(net, fast, (x,)).pow(2).mean().backward()",
        "functional_call(net, (fast, {}), x).pow(2).mean().backward()",
        "torch.vmap(lambda one: functional_call(net, fast, (one,)))(x).pow(2).mean().backward()",
    ],
)
def test_keys_that_are_no_names_are_told_of(keys: str, call: str) -> None:
    lines, source, text = found(keys, call)
    assert lines[-1] == line_of(source, "# calls")
    assert lines[:-1] in ([], [line_of(source, "# computes")])
    assert "runs Sequential with parameters of its own" in text


def test_the_statement_that_gives_the_keys_comes_first() -> None:
    lines, source, text = found(WRONG[0])
    assert lines == [line_of(source, "# computes"), line_of(source, "# calls")]
    assert "(0_weight)" in text and "(0.weight)" in text and "all that it is given" in text
    lines, source, text = found(WRONG[3])
    assert "2 of the 4 values" in text


@pytest.mark.parametrize(
    "call",
    [
        CALL,
        "functional_call(net, {**fast, 'rate': torch.ones(())}, (x,)).sum().backward()",
        "functional_call(net, {**fast, 'other.weight': torch.ones(4, 3)}, (x,)).sum().backward()",
        "functional_call(net, {'2.weight': fast['2.weight']}, (x,)).sum().backward()",
        "functional_call(net, {'2.weight': fast['2.weight'], 'rate': torch.ones(())}, (x,)).sum().backward()",
        "functional_call(net[0], {k.removeprefix('0.'): w for k, w in fast.items()}, (x,)).sum().backward()",
        "functional_call(net, {}, (x,)).sum().backward()",
    ],
)
def test_all_names_and_others_beside_them_are_silent(call: str) -> None:
    assert found("k", call)[0] == []


def test_a_strict_call_raises_by_itself() -> None:
    assert not found(WRONG[0], CALL.replace("(x,))", "(x,), strict=True)"))[0]


def test_it_is_noted_of_the_first_calls_alone() -> None:
    source = PROGRAM.format(keys=WRONG[0], call=f"for _ in range(20): {CALL.replace('.backward()', '')}")
    kinds = recorded(source).events.column("kind")
    assert sum(kind == EventKind.LEFT_OUT_KEYS for kind in kinds) == 16

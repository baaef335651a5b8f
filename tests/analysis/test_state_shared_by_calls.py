"""Functions whose forward keeps what belongs to one call where the next one overwrites it."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """\
import torch
STATE = {}
class Relu(torch.autograd.Function):
    stack = []
    factor = 2
    @classmethod
    def keep(cls, mask): cls.mask = mask
    @classmethod
    def keep_all(cls, **kept):
        for name, value in kept.items(): setattr(cls, name, value)
    @classmethod
    def log(cls, **kept): print(sorted(kept))
    @staticmethod
    def forward(ctx, x):
        KEEP
        return x.clamp(min=0)
    @staticmethod
    def backward(ctx, grad):
        return grad * READ
w = torch.linspace(-2, 2, 5, requires_grad=True)
"""
TWO = "(Relu.apply(w) + Relu.apply(1 - w)).sum().backward()"


def lines(keep: str, read: str, calls: str = TWO) -> list[list[int]]:
    source = SOURCE.replace("KEEP", keep).replace("READ", read) + calls
    answers = build(recorded(source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "state-shared-by-calls"]


@pytest.mark.parametrize("place", ['STATE["mask"]', "Relu.mask"])
def test_where_it_is_kept_and_read_is_named(place: str):
    assert lines(f"{place} = x > 0", place) == [[15, 19]]


@pytest.mark.parametrize(
    ("keep", "read"),
    [
        ("Relu.mask, Relu.size = x > 0, x.shape", "Relu.mask"),
        ('setattr(Relu, "mask", x > 0)', "Relu.mask"),
        ("Relu.mask = x > 0", 'getattr(Relu, "mask")'),
        ("STATE.update(mask=x > 0)", "STATE['mask']"),
        ("STATE['mask'] = x > 0", "STATE.get('mask')"),
        ("Relu.keep(x > 0)", "Relu.mask"),
        ("Relu.keep(mask=x > 0)", "Relu.mask"),
        ("Relu.keep_all(mask=x > 0)", "Relu.mask"),
        ("mask = x > 0; Relu.mask = mask", "Relu.mask"),
        ("Relu.given = x", "(Relu.given > 0)"),
        ("Relu.keep_all(given=x)", "(Relu.given > 0)"),
    ],
)
def test_so_it_is_however_it_is_put_there(keep: str, read: str):
    source = TWO.replace("Relu.apply(w)", "Relu.apply(2 * w)")
    assert lines(keep, read, source) == [[15, 19]]


@pytest.mark.parametrize(
    ("keep", "read", "calls"),
    [
        ("ctx.mask = x > 0", "ctx.mask", TWO),
        ("Relu.stack.append(x > 0)", "Relu.stack.pop()", TWO),
        ("STATE[id(ctx)] = x > 0", "STATE[id(ctx)]", TWO),
        ("ctx.given = x", "(ctx.given > 0)", TWO),
        ("Relu.given = x", "(Relu.given > 0)", "(Relu.apply(w) + 3 * Relu.apply(w)).sum().backward()"),
        ("Relu.log(factor=x > 0)", "Relu.factor", TWO),
        ("if 'one' not in STATE: STATE['one'] = torch.ones(1).to(x)", "STATE['one']", TWO),
        ("Relu.keep(x.shape)", "len(Relu.mask)", TWO),
        ("ctx.mask = x > 0; Relu.size = x.shape[0] + 0", "ctx.mask * (Relu.size > 0)", TWO),
        ("Relu.mask = x > 0", "Relu.mask", "for k in range(3):\n    Relu.apply(w * k).sum().backward()"),
    ],
)
def test_what_each_call_has_of_its_own_or_uses_before_the_next_is_fine(keep: str, read: str, calls: str):
    assert lines(keep, read, calls) == []

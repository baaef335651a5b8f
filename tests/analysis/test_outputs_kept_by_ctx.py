"""A Function whose ctx keeps its output: each output that nothing frees stays, and those that are freed do not."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import gc
import torch
gc.disable()

def work(x):
    return torch.tanh(x)

class Keeps(torch.autograd.Function):
    {methods}

    @staticmethod
    def backward(ctx, grad):
        y = {kept}
        {frees}
        return grad * (1 - y * y)

a, b = torch.ones(64, requires_grad=True), torch.ones(64, requires_grad=True)
kept = []
for step in range(8):
    main, extra = Keeps.apply(a * step), Keeps.apply(b + step)
    {round}
gc.enable()
"""
IN_FORWARD = """@staticmethod
    def forward(ctx, x):
        y = work(x)
        ctx.y = y  # keeps
        return y"""
CHAINED = """@staticmethod
    def forward(ctx, x):
        with torch.no_grad():
            ctx.y = out = work(x)  # keeps
        return out"""
IN_SETUP = """@staticmethod
    def forward(x):
        return work(x)
    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.y, ctx.size = output, len(inputs)  # keeps"""
DETACHED = IN_FORWARD.replace("ctx.y = y", "ctx.y = y.detach()")
SAVED = IN_FORWARD.replace("ctx.y = y", "ctx.save_for_backward(y)")
INNER = IN_FORWARD.replace("return y", "return y * 1.0")
USUAL = {"methods": IN_FORWARD, "kept": "ctx.y.detach()", "frees": "del ctx.y", "round": "main.sum().backward()"}


def told(**parts: str) -> tuple[list[int], str, str]:
    source = PROGRAM.format(**{**USUAL, **parts})
    recording = recorded(source)
    assert recording.info.outcome.kind == "ok", recording.info.outcome
    answers = [one for one in build(recording).answers if one.code == "output-kept-by-ctx"]
    return [cause.line for one in answers for cause in one.causes], " ".join(one.text for one in answers), source


@pytest.mark.parametrize("methods", [IN_FORWARD, CHAINED, IN_SETUP])
def test_outputs_that_no_pass_comes_to_stay_though_backward_frees_them(methods: str) -> None:
    lines, text, source = told(methods=methods)
    assert lines == [line_of(source, "# keeps")]
    assert "the pass of their round, which does not come to them" in text and "7 outputs (1.8 KiB)" in text


@pytest.mark.parametrize("methods", [IN_FORWARD, CHAINED, IN_SETUP])
def test_outputs_stay_after_their_pass_where_nothing_frees_them(methods: str) -> None:
    lines, text, source = told(methods=methods, frees="pass", round="(main + extra).sum().backward()")
    assert lines == [line_of(source, "# keeps")] and "after their backward pass" in text


@pytest.mark.parametrize(
    "parts",
    [
        {"round": "(main + extra).sum().backward()"},
        {"methods": DETACHED},
        {"methods": SAVED, "kept": "ctx.saved_tensors[0]", "frees": "pass"},
        {"methods": INNER, "frees": "pass"},
        {"round": "main.sum().backward(); kept.append(extra)"},
        {"round": "main.sum().backward() if step < 1 else None"},
    ],
)
def test_outputs_that_go_or_that_the_program_holds_are_not_told(parts: dict[str, str]) -> None:
    assert told(**parts)[0] == []

"""An output of a Function that is marked as non-differentiable while its gradient is computed with."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
class Keep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, nodes, scores):
        {kept}
        {marks}
        ctx.save_for_backward(index)
        ctx.shape = scores.shape
        return nodes[index], kept, index
    @staticmethod
    def backward(ctx, grad_nodes, {arguments}):
        index, = ctx.saved_tensors
        full = grad_nodes.new_zeros(ctx.shape).index_add(0, index, grad_nodes)
        grad_scores = None
        {computes}
        return full, grad_scores
w, v = torch.rand(5, requires_grad=True), torch.rand(5, requires_grad={needed})
nodes, kept, _ = Keep.apply(w * 1, v * 1)
loss = nodes.sum() + {use}
loss.backward()
"""
BUG = {
    "kept": "kept, index = scores.topk(2)",
    "marks": "ctx.mark_non_differentiable(kept, index)",
    "arguments": "grad_kept, grad_index",
    "computes": "grad_scores = grad_nodes.new_zeros(ctx.shape).index_add(0, index, grad_kept)",
    "needed": "True",
    "use": "(1 - kept).exp().mean()",
}


def told(**changed: str) -> tuple[str, list[int]]:
    source = SOURCE.format(**{**BUG, **changed})
    recording = recorded(source)
    assert recording.info.outcome.kind == "ok", recording.info.outcome.message
    answers = [one for one in build(recording).answers if one.code == "marked-non-differentiable"]
    return source, [cause.line for answer in answers for cause in answer.causes]


@pytest.mark.parametrize(
    "changed",
    [
        {"use": "((1 - kept) * w[:2]).sum()"},
        {"use": "(kept[None] * w[:2]).sum()"},
        {"marks": "ctx.mark_non_differentiable(kept)"},
        {"kept": "best, index = scores.topk(2); kept = best"},
        {"kept": "index = scores.topk(2).indices; kept = scores[index]"},
        {
            "computes": "if grad_kept is not None:\n"
            "            grad_scores = grad_nodes.new_zeros(ctx.shape).index_add(0, index, grad_kept)"
        },
    ],
    ids=["a factor", "a view", "alone", "by another name", "in two steps", "where it is given"],
)
def test_the_mark_is_named(changed: dict[str, str]) -> None:
    source, lines = told(**{"use": "(w[:2] * kept).sum()", **changed})
    assert lines == [line_of(source, "ctx.mark_non")]


def test_a_term_of_the_loss_that_has_no_graph_of_its_own_is_a_use() -> None:
    source, lines = told()
    assert lines == [line_of(source, "ctx.mark_non")]


@pytest.mark.parametrize(
    "changed",
    [
        {"marks": "ctx.mark_non_differentiable(index)"},
        {"computes": "grad_scores = grad_nodes.new_zeros(ctx.shape)"},
        {"computes": "assert grad_kept is not None"},
        {"use": "kept.detach().mean()"},
        {"use": "0; kept.mean().item()"},
        {"use": "(kept > 0).sum()"},
        {"needed": "False", "kept": "kept, index = scores.topk(2); kept = (nodes > 0).float()[:2]", "use": "0"},
    ],
    ids=["the index alone", "its gradient is not used", "asked", "detached", "logged", "a mask", "not used"],
)
def test_it_is_silent_where_no_gradient_is_meant(changed: dict[str, str]) -> None:
    assert told(**changed)[1] == []


def test_nothing_that_requires_grad_needs_no_gradient() -> None:
    source = SOURCE.format(**BUG).replace("requires_grad=True", "requires_grad=False") + "\n"
    source = source.replace("loss.backward()", "(loss * torch.ones((), requires_grad=True)).backward()")
    answers = build(recorded(source)).answers
    assert "marked-non-differentiable" not in [one.code for one in answers]


@pytest.mark.parametrize(("mark", "said"), [("ctx.mark_non_differentiable(out)", [6]), ("pass", [])])
def test_a_loss_made_of_it_alone_fails_and_is_a_use(mark: str, said: list[int]) -> None:
    source = f"""
    import torch
    class Round(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            out = x.round()
            {mark}
            return out
        @staticmethod
        def backward(ctx, grad):
            return grad
    w = torch.rand(3, requires_grad=True)
    loss = (Round.apply(w * 2) - 1).pow(2).sum()
    loss.backward()
    """
    answers = [one for one in build(recorded(source)).answers if one.code == "marked-non-differentiable"]
    assert [cause.line for answer in answers for cause in answer.causes] == said

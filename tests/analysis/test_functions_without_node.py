"""A Function whose backward writes something, and that nothing which requires grad was given: only that is named."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, store):
        ctx.store = store
        {forward}
    @staticmethod
    def backward(ctx, grad):
        {writes}
        return grad * 2, None
class Layer(torch.nn.Module):
    def __init__(self, start):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(3))
        self.seen = []
    def forward(self, x):
        scaled = Scale.apply(x, self)  # applied
        return {use}
net = torch.nn.Sequential(Layer(0), Layer(1))
x = torch.ones(2, 3{grad})
{run}
"""
BUG = {
    "forward": "return x * 2",
    "writes": "ctx.store.side = grad.sum()",
    "grad": "",
    "use": "scaled + self.bias",
    "run": "net(x).sum().backward()",
}


def told(**changed: str) -> tuple[str, list[str]]:
    source = SOURCE.format(**{**BUG, **changed})
    recording = recorded(source)
    assert recording.info.outcome.kind == "ok", recording.info.outcome.message
    answers = [one for one in build(recording).answers if one.code == "function-without-node"]
    return source, [f"{cause.line}" for answer in answers for cause in answer.causes]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"forward": "out = x * 2\n        return out"},
        {"writes": "store = ctx.store; store.side = grad"},
        {"writes": "ctx.store.seen.append(grad)"},
        {"use": "scaled[None] + self.bias"},
        {"use": "(scaled * 0.5).reshape(3, 2).t() * self.bias"},
        {"use": "scaled + 0.1 * torch.nn.functional.linear(scaled[None], torch.diag(self.bias))[0]"},
    ],
    ids=["attribute", "a result that has a name", "by a name", "a list", "a view", "views", "views and itself"],
)
def test_the_call_is_named(changed: dict[str, str]) -> None:
    source, lines = told(**changed)
    assert lines == [str(line_of(source, "# applied"))]


@pytest.mark.parametrize(
    "changed",
    [
        {"grad": ", requires_grad=True"},
        {"use": "scaled[None] + self.bias", "grad": ", requires_grad=True"},
        {"use": "scaled.detach()[None] + self.bias"},
        {"use": "(scaled[None] > 0) + self.bias"},
        {"writes": "ctx.store = None"},
        {"writes": "if ctx.needs_input_grad[0]: ctx.store.side = grad"},
        {"run": "with torch.no_grad(): y = net(x)"},
        {"run": "net(x)"},
        {"run": "with torch.no_grad(): y = Scale.apply(x, net[0])\n(y * net[0].bias).sum().backward()"},
        {"run": "net[0].requires_grad_(False); y = net[1](torch.ones(3, requires_grad=True)); y.sum().backward()"},
    ],
    ids=[
        "input requires grad",
        "input of a view requires grad",
        "cut off",
        "a mask",
        "frees",
        "asks what is needed",
        "no_grad",
        "no backward",
        "applied under no_grad",
        "other",
    ],
)
def test_it_is_silent_where_nothing_is_lost(changed: dict[str, str]) -> None:
    assert told(**changed)[1] == []


def test_where_other_calls_there_made_nodes_that_is_said() -> None:
    """The second layer's input requires grad, the first one's does not; one layer alone is all calls there are."""
    texts = []
    for layers in ("Layer(0), Layer(1)", "Layer(0)"):
        source = SOURCE.format(**BUG).replace("Layer(0), Layer(1)", layers)
        texts += [answer.text for answer in build(recorded(source)).answers if answer.code == "function-without-node"]
    assert [text.count("in some of its calls: for these its backward does not run") for text in texts] == [1, 0]
    assert all("line 9 writes nothing" in text for text in texts)


@pytest.mark.parametrize(
    ("writes", "optimizer", "severity"),
    [
        ('ctx.store["side"] = grad.sum()', "bias", "note"),
        ('ctx.store["side"] = grad.sum()', "x", "warning"),
        ("side = grad.sum()", "bias", "warning"),
    ],
    ids=["for the node only", "an optimizer's", "writes nothing"],
)
def test_an_input_that_is_there_for_the_node_only_is_no_warning(writes: str, optimizer: str, severity: str) -> None:
    """Nothing is missed where the backward only writes, and gives no input a gradient."""
    source = f"""
    import torch
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, store):
            ctx.store = store
            return x * 2
        @staticmethod
        def backward(ctx, grad):
            {writes}
            return None, None
    store, bias = {{}}, torch.zeros(3, requires_grad=True)
    x = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([{optimizer}], lr=0.1)
    (Scale.apply(x, store) + bias).sum().backward()
    optimizer.step()
    """
    answers = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    assert [one.severity for one in answers] == [severity]

"""What a reader of screens found false, misleading or cut to nothing, each with a program that is nobody's."""

from __future__ import annotations

import io

import torch
from rich.console import Console
from torch import nn

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Report
from gradscope.report.run.run_screen import render
from tests.analysis.building import line_of, recorded


def _screen(report: Report) -> str:
    screen = io.StringIO()
    render(report, Console(file=screen, width=80))
    return screen.getvalue()


def test_a_cut_comes_once_a_run_however_many_layers_it_cuts_off() -> None:
    source = """
    import torch
    from torch import nn
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
        def forward(self, x):
            return self.body(x)
    net, teacher = Net(), Net()
    for step in range(4):
        x = torch.randn(2, 3)
        with torch.no_grad():
            goal = teacher(x)
        ((net(x) - goal).pow(2).mean() + net(x * 2).mean()).backward()
    """
    (cut,) = [one for one in build(recorded(source)).cuts if one.place.line == line_of(source, "return self.body(x)")]
    assert cut.executions == 4


def test_modes_that_an_optimizer_sets_around_a_closure_are_not_the_programs() -> None:
    source = """
    import torch
    w = torch.ones(2, requires_grad=True)
    opt = torch.optim.LBFGS([w], max_iter=3)
    def closure():
        opt.zero_grad()
        loss = (w - 1.5).pow(2).sum()
        loss.backward()
        return loss
    opt.step(closure)
    @torch.no_grad()
    def shown():
        return w * 2
    shown()
    """
    (mode,) = build(recorded(source)).modes
    assert (mode.mode, mode.place.line) == ("no_grad", line_of(source, "@torch.no_grad()"))


def test_what_a_function_gave_is_not_under_the_no_grad_of_the_next_ones_forward() -> None:
    source = """
    import torch
    class Reverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)
        @staticmethod
        def backward(ctx, grad):
            return -grad
    h = torch.ones(3, requires_grad=True) * 2
    r = Reverse.apply(h)
    s = Reverse.apply(h)
    (r + s).sum().backward()
    """
    rows = {row.name: row.modes for row in build(recorded(source)).lines if row.name in ("r", "s")}
    assert rows == {"r": (), "s": ()}


def test_self_is_the_object_of_the_method_in_question() -> None:
    source = """
    import torch
    from torch import nn
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(3, 3)
            self.last = nn.Linear(3, 3)
        def forward(self, z):
            return self.last(torch.tanh(self.body(z)))
    class Trainer:
        def __init__(self):
            self.decoder = Decoder()
            self.run = self.decoder
        def norm(self, loss):
            layer = self.decoder.last.weight
            (grad,) = torch.autograd.grad(loss, layer, retain_graph=True)
            return grad.norm()
        def step(self, z):
            loss = self.run(z).pow(2).mean()
            (loss * self.norm(loss)).backward()
    trainer = Trainer()
    trainer.step(torch.randn(2, 3))
    """
    report = build(recorded(source))
    (graph,) = [one for one in report.graphs if one.line == line_of(source, "torch.autograd.grad(")]
    leaves = {row.tensor for row in graph.rows if row.is_leaf}
    assert leaves == {"layer", "self.run.last.bias", "self.run.body.weight", "self.run.body.bias"}


def library_halves(model: nn.Module) -> None:
    """What a library does to a model of many layers: it looks at each, and writes their weights with grad mode off."""
    for p in model.parameters():
        p.sum()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.5)


def test_what_a_library_sets_within_a_call_the_line_is_not_under() -> None:
    source = """
    import torch
    from torch import nn
    from tests.analysis.test_read_by_eye_again import library_halves
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(40)))
    library_halves(model)
    with torch.no_grad():
        model[0].weight.mul_(2)
    """
    rows = build(recorded(source)).lines
    modes = {row.line: set(row.modes) for row in rows if row.kind == "changed"}
    assert modes == {5: set(), 7: {"no_grad"}}


def test_a_base_that_lives_by_its_view_is_not_another_result_that_is_kept() -> None:
    source = """
    import torch
    w = torch.ones(2, 3, requires_grad=True)
    outputs = []
    for step in range(6):
        h = (w * step).t().contiguous().t()
        h.sum().backward()
        outputs.append(h)
    """
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "graph-kept-after-pass"]
    assert "keeps 6 results" in answer.text


def test_gradients_that_are_kept_of_results_are_no_leaves() -> None:
    source = """
    import torch
    w = torch.ones(3, requires_grad=True)
    class Same(torch.autograd.Function):
        @staticmethod
        def forward(ctx, h):
            return h * 1
        @staticmethod
        def backward(ctx, grad):
            return grad
    for step in range(3):
        h = Same.apply(w)
        h.retain_grad()
        h.sum().backward()
    """
    summary = build(recorded(source)).summary
    assert (summary.leaves_with_gradient, summary.leaves_without_gradient) == (1, 0)


def test_long_names_of_leaves_keep_their_ends_and_one_more_is_one_leaf() -> None:
    source = """
    import torch
    from torch import nn
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder_of_the_whole_sentence = nn.ModuleList([nn.ModuleDict({
                "attention_projection": nn.Linear(2, 2, bias=False), "intermediate_projection": nn.Linear(2, 2),
                "output_projection": nn.Linear(2, 2),
            }) for _ in range(2)])
            self.head = nn.Linear(2, 1, bias=False)
        def forward(self, x):
            with torch.no_grad():
                for layer in self.encoder_of_the_whole_sentence:
                    for part in layer.values():
                        x = part(x)
            return self.head(x)
    model = Model()
    model(torch.ones(1, 2)).sum().backward()
    """
    gradients = _screen(build(recorded(source))).partition("\nGradients\n")[2].partition("\n\n")[0]
    for end in ("attention_projection.weight", "intermediate_projection.weight", "intermediate_projection.bias"):
        assert end[-18:] in gradients

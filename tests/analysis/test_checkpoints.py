"""Activation checkpointing: what is said of a function that backward runs again, and what is not."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """\
import torch
from torch.utils.checkpoint import checkpoint
norm, x = torch.nn.BatchNorm1d(3), torch.randn(4, 3, requires_grad=True)
def normed(x):
    return norm(x).exp()
def dropped(x, training=True):
    return torch.nn.functional.dropout(x.exp(), 0.5, training).exp()
"""


def codes(program: str) -> dict[str, list[int]]:
    answers = build(recorded(HEAD + program)).answers
    return {one.code: [cause.line for cause in one.causes] for one in answers if one.code.startswith("checkpoint")}


def test_the_line_that_checkpoints_is_named() -> None:
    twice = codes("y = checkpoint(normed, x, use_reentrant=False)\ny.sum().backward()")
    assert twice == {"checkpoint-updates-twice": [8]}
    anew = codes("y = checkpoint(dropped, x, use_reentrant=False, preserve_rng_state=False)\ny.sum().backward()")
    assert anew == {"checkpoint-draws-anew": [8]}


@pytest.mark.parametrize(
    "program",
    [
        "checkpoint(normed, x, use_reentrant=False)",
        "norm.eval()\ncheckpoint(normed, x, use_reentrant=False).sum().backward()",
        "with torch.no_grad():\n    checkpoint(normed, x, use_reentrant=False)\nnormed(x).sum().backward()",
        "checkpoint(dropped, x, use_reentrant=False).sum().backward()",
        "checkpoint(dropped, x, False, use_reentrant=False, preserve_rng_state=False).sum().backward()",
    ],
    ids=["no-backward", "evaluation", "no-grad", "state-kept", "nothing-dropped"],
)
def test_healthy_checkpoints_are_left_alone(program: str) -> None:
    assert codes(program) == {}


def test_layers_of_torch_that_are_checkpointed_as_they_are_are_seen() -> None:
    program = (
        "net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5), torch.nn.Linear(3, 3))\n"
        "checkpoint(net, x, use_reentrant=False, preserve_rng_state=False).sum().backward()"
    )
    assert codes(program) == {"checkpoint-draws-anew": [9]}


STATE = """
class Mean(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = torch.nn.Linear(3, 3)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("batches", torch.zeros(()))
        self.again = False
    def forward(self, x):
        h = self.lin(x)
        UPDATE
        return (h - self.mean).exp().log1p()
net = Mean()
for step in range(2):
    y = checkpoint(net, x, use_reentrant=REENTRANT)
    (y * 2).sum().backward()
"""


@pytest.mark.parametrize("reentrant", ["False", "True"])
@pytest.mark.parametrize(
    ("update", "named"),
    [
        ("self.batches += 1", "net.batches"),
        ("self.mean.mul_(0.9).add_(h.detach().mean(0), alpha=0.1)", "net.mean"),
        ("self.mean.lerp_(h.detach().mean(0), 0.1)", "net.mean"),
        ("self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(0)", "net.mean"),
        ("self.mean[:] = 0.9 * self.mean + 0.1 * h.detach().mean(0)", "net.mean"),
        ("self.mean.copy_(0.9 * self.mean + 0.1 * h.detach().mean(0))", "net.mean"),
    ],
)
def test_state_of_the_programs_own_that_is_updated_from_what_it_was_is_named(
    update: str, named: str, reentrant: str
) -> None:
    program = STATE.replace("UPDATE", update).replace("REENTRANT", reentrant)
    line = (HEAD + program).split("\n").index(f"    y = checkpoint(net, x, use_reentrant={reentrant})") + 1
    (answer,) = [one for one in build(recorded(HEAD + program)).answers if one.code.startswith("checkpoint")]
    assert (answer.code, [cause.line for cause in answer.causes]) == ("checkpoint-updates-twice", [line])
    assert f"updates {named} from what it was" in answer.text
    plain = program.replace(f"checkpoint(net, x, use_reentrant={reentrant})", "net(x)")
    assert codes(plain) == {}


@pytest.mark.parametrize(
    "update",
    [
        "self.mean.copy_(h.detach().mean(0))",
        "self.mean[:] = h.detach().mean(0)",
        "self.mean = h.detach().mean(0)",
        "self.mean.zero_()",
        "h = h.add_(1)",
        "self.again = not self.again; self.batches.add_(int(self.again))if self.again else None",
    ],
)
def test_state_that_a_second_run_leaves_the_same_is_not_blamed(update: str) -> None:
    assert codes(STATE.replace("UPDATE", update).replace("REENTRANT", "False")) == {}


def test_the_line_whose_run_no_backward_came_through_is_not_blamed() -> None:
    both = STATE.replace("UPDATE", "self.batches += 1").replace("REENTRANT", "False")
    both += "with torch.no_grad():\n    checkpoint(net, x, use_reentrant=False)\n"
    assert codes(both) == {"checkpoint-updates-twice": [22]}


def test_an_update_behind_all_that_backward_needs_runs_once() -> None:
    late = (
        STATE.replace("        UPDATE\n", "").replace("return (h", "h = (h").replace("log1p()", "log1p()\n        {}")
    )
    late = late.format("self.batches += 1\n        return h").replace("REENTRANT", "False")
    assert codes(late) == {}
    assert codes(late.replace("use_reentrant=False", "use_reentrant=True")) == {"checkpoint-updates-twice": [23]}


RUN_AGAIN = """
import torch
from torch.utils.checkpoint import checkpoint
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh())
    def forward(self, h):
        h = self.parts(h)
        return torch.tanh(h * 2)
net, x = Net(), torch.ones(2, 3, requires_grad=True)
for step in range(3):
    y = {call}
    {then}
"""
REENTRANT, OTHER = "checkpoint(net, x, use_reentrant=True)", "checkpoint(net, x, use_reentrant=False)"


@pytest.mark.parametrize(
    ("call", "then", "runs"),
    [
        (REENTRANT, "y.sum().backward()", 6),
        (OTHER, "y.sum().backward()", 6),
        (REENTRANT, "y = y.detach()", 3),
        (OTHER, "y = y.detach()", 3),
        ("net(x)", "y.sum().backward()", 3),
    ],
)
def test_what_runs_again_inside_backward_is_counted(call: str, then: str, runs: int) -> None:
    report = build(recorded(RUN_AGAIN.format(call=call, then=then)))
    rows = {row.line: row for row in report.lines}
    again = "3 of 6 runs inside backward (checkpoint); shown are the others"
    assert [(rows[line].executions, again in rows[line].notes) for line in (8, 9)] == [(runs, runs == 6)] * 2
    assert 12 not in rows or rows[12].executions == 3


ATTENDING = """
import torch
from torch.utils.checkpoint import checkpoint
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = torch.nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = torch.nn.Linear(4, 4)
        self.ran = 0
    def forward(self, x):
        self.ran += 1
        {body}
net = Net()
for _ in range(5):
    checkpoint(net, torch.ones(3, 2, 4), use_reentrant=False).sum().backward()
net.eval()
with torch.no_grad():
    for _ in range({evaluated}):
        net(torch.ones(3, 2, 4))
assert net.ran == 10 + {evaluated}
"""
BODIES = {
    "between others": "h = x * 2\n        x = x + self.attn(h, h, h)[0]  # here\n        return x + self.out(x)",
    "alone": "return self.attn(x, x, x, need_weights=False)[0]  # here",
    "before a layer": "h, _ = self.attn(x, x, x)  # here\n        return self.out(h)",
}


@pytest.mark.parametrize("evaluated", [0, 3, 40])
@pytest.mark.parametrize("body", BODIES)
def test_what_is_called_otherwise_while_a_model_is_evaluated_is_counted_as_well(body: str, evaluated: int) -> None:
    source = ATTENDING.format(body=BODIES[body], evaluated=evaluated)
    rows = [row for row in build(recorded(source)).lines if row.line == line_of(source, "# here")]
    assert {row.executions for row in rows} == {10 + evaluated}
    assert f"5 of {10 + evaluated} runs inside backward (checkpoint); shown are the others" in rows[0].notes


IN_BACKWARD = """
import torch
def cube(x):
    return x ** 3
class Again(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return cube(x)
    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = {again}
        return torch.autograd.grad(y, x, gradient)[0]
w = torch.ones(3, requires_grad=True)
for step in range(20):
    Again.apply(w).sum().backward()
cube(w).sum().backward()
"""


@pytest.mark.parametrize(("again", "inside"), [("cube(x)", 20), ("x ** 3", 0)])
def test_what_the_backward_of_a_function_calls_is_counted(again: str, inside: int) -> None:
    report = build(recorded(IN_BACKWARD.format(again=again)))
    (row,) = [row for row in report.lines if row.line == 3]
    assert row.executions == 21 + inside
    note = f"{inside} of {row.executions} runs inside backward (Again.backward); shown are the others"
    assert (note in row.notes) == bool(inside)
    assert not report.faults


def test_a_function_called_by_the_program_itself_is_counted_once() -> None:
    body = IN_BACKWARD.format(again="cube(x)") + "w.grad = Again.backward(Again.apply(w).grad_fn, torch.ones(3))\n"
    (row,) = [row for row in build(recorded(body)).lines if row.line == 3]
    assert row.executions == 21 + 20 + 2


OUTSIDE = """
import random
from random import gauss
import numpy as np
rng = np.random.default_rng(0)
net = torch.nn.Linear(3, 3)
def gain():
    return rng.uniform(0.5, 1.5)
def stage(x, seed=None):
    DRAW
    return net(h).exp()
for step in range(2):
    y = checkpoint(stage, x, use_reentrant=REENTRANT)
    y.sum().backward()
"""


@pytest.mark.parametrize("reentrant", ["False", "True"])
@pytest.mark.parametrize(
    ("draw", "at"),
    [
        ("h = x * random.uniform(0.5, 1.5)", 17),
        ("h = x * gauss(1, 0.1)", 17),
        ("scale = np.random.rand(); h = x * scale", 17),
        ("scale = torch.from_numpy(rng.normal(size=(4, 3))).float(); h = x * scale", 17),
        ("h = x * gain()", 15),
        ("h = x.exp()\n    if random.random() < 2: h = h * 2", 18),
    ],
)
def test_what_numpy_or_python_draws_in_a_checkpointed_function_is_named(draw: str, at: int, reentrant: str) -> None:
    program = OUTSIDE.replace("DRAW", draw).replace("REENTRANT", reentrant)
    assert codes(program) == {"checkpoint-draws-anew": [at]}
    assert codes(program.replace(f"checkpoint(stage, x, use_reentrant={reentrant})", "stage(x)")) == {}


@pytest.mark.parametrize(
    "draw",
    [
        "h = x * torch.rand(())",
        "h = x * np.random.default_rng(seed or 3).uniform(0.5, 1.5)",
        "rng = np.random.default_rng(3); h = x * rng.uniform(0.5, 1.5)",
        "random.seed(3); h = x * random.random()",
        "h = x.exp()\n    k = random.randrange(3)\n    print(h[0, k].item())",
        "h = x.exp()\n    if random.random() < 2: print(h.sum().item())",
        "h = x.exp()\n    if random.random() < 0: h = h * 2",
        "state = random.getstate(); h = x * random.random(); random.setstate(state)",
    ],
)
def test_what_is_drawn_alike_or_for_nothing_is_not_blamed(draw: str) -> None:
    assert codes(OUTSIDE.replace("DRAW", draw).replace("REENTRANT", "False")) == {}


def test_what_is_drawn_before_the_checkpoint_is_not_blamed() -> None:
    before = OUTSIDE.replace("DRAW", "h = x * seed").replace(
        "x, use_reentrant=REENTRANT", "x, gain(), use_reentrant=False"
    )
    assert codes(before) == {}


NORMED = """
from torch.nn.utils import spectral_norm as hooked
from torch.nn.utils.parametrizations import spectral_norm as normed
from torch.nn.utils.parametrize import cached
lin = KIND(torch.nn.Linear(3, 3))
class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = lin
    def forward(self, x):
        return torch.relu(self.inner(x))
net, data = MODULE, torch.randn(4, 3)
for step in range(STEPS):
    CALL
"""
CHECKPOINTED = "checkpoint(net, data, use_reentrant=False).sum().backward()"


@pytest.mark.parametrize("steps", ["1", "3"])
@pytest.mark.parametrize("module", ["torch.nn.Sequential(lin, torch.nn.ReLU())", "Own()", "lambda x: lin(x).relu()"])
@pytest.mark.parametrize("kind", ["normed", "hooked"])
def test_a_power_iteration_that_backward_makes_again_is_named(kind: str, module: str, steps: str) -> None:
    program = NORMED.replace("KIND", kind).replace("MODULE", module).replace("STEPS", steps)
    assert codes(program.replace("CALL", CHECKPOINTED)) == {"checkpoint-updates-twice": [21]}
    assert codes(program.replace("CALL", "net(data).sum().backward()")) == {}


@pytest.mark.parametrize(
    "call",
    [
        "lin.eval(); " + CHECKPOINTED,
        "checkpoint(net, data, use_reentrant=False)",
        "with cached(): " + CHECKPOINTED,
        "h = net(data); checkpoint(torch.sigmoid, h, use_reentrant=False).sum().backward()",
        "with torch.no_grad(): checkpoint(net, data, use_reentrant=False)\n    net(data).sum().backward()",
    ],
    ids=["evaluation", "no backward", "kept for both runs", "outside", "no_grad"],
)
def test_a_power_iteration_that_is_made_once_is_not_blamed(call: str) -> None:
    program = NORMED.replace("KIND", "normed").replace("MODULE", "torch.nn.Sequential(lin, torch.nn.ReLU())")
    assert codes(program.replace("STEPS", "3").replace("CALL", call)) == {}


GENERATED = """
gen = torch.Generator().manual_seed(0)
class Drop(torch.nn.Module):
    def __init__(self, generator):
        super().__init__()
        self.generator, self.lin, self.seed = generator, torch.nn.Linear(3, 3), 3
    def forward(self, x):
        x = self.lin(x)
        DRAW
        return (x * keep).exp()
net = torch.nn.Sequential(torch.nn.Linear(3, 3), Drop(gen))
for step in range(2):
    BEFORE
    checkpoint(net, x, use_reentrant=False).sum().backward()
"""


def generated(draw: str, before: str = "pass") -> str:
    return GENERATED.replace("DRAW", draw).replace("BEFORE", before)


@pytest.mark.parametrize(
    ("draw", "at"),
    [
        ("keep = torch.rand(len(x), 1, generator=self.generator) >= 0.4", 16),
        ("keep = (torch.rand(len(x), 1, generator=gen) >= 0.4) / 0.6", 16),
        ("keep = torch.empty(3).bernoulli_(0.5, generator=self.generator)", 16),
        ("own = self.generator\n        keep = torch.randn(x.shape, generator=own)", 17),
        ("keep = torch.bernoulli(torch.full((3,), 0.5),\n            generator=self.generator)", 16),
    ],
)
@pytest.mark.parametrize("before", ["pass", "torch.manual_seed(step)", "gen.manual_seed(step)"])
def test_what_a_generator_of_its_own_draws_in_a_checkpointed_function_is_named(draw: str, at: int, before: str) -> None:
    program = generated(draw, before)
    assert codes(program) == {"checkpoint-draws-anew": [at]}
    assert codes(program.replace("checkpoint(net, x, use_reentrant=False)", "net(x)")) == {}


@pytest.mark.parametrize(
    "draw",
    [
        "keep = torch.rand(len(x), 1) >= 0.4",
        "keep = torch.rand(len(x), 1, generator=None) >= 0.4",
        "self.generator.manual_seed(3); keep = torch.rand(len(x), 1, generator=self.generator) >= 0.4",
        "keep = torch.rand(len(x), 1, generator=torch.Generator().manual_seed(3)) >= 0.4",
        "own = torch.Generator().manual_seed(3)\n        keep = torch.rand(len(x), 1, generator=own) >= 0.4",
        "keep = 2\n        print(torch.rand(1, generator=self.generator).item())",
        "state = gen.get_state(); keep = torch.rand(3, generator=gen); gen.set_state(state)",
    ],
)
def test_what_a_generator_draws_alike_or_for_nothing_is_not_blamed(draw: str) -> None:
    assert codes(generated(draw)) == {}


HELPED = """
def dropped(x, generator):
    return torch.rand(x.shape, generator=generator)
def made():
    return torch.Generator().manual_seed(3)
def masked(x, module):
    HELPER
"""


@pytest.mark.parametrize(
    ("helper", "draw", "named"),
    [
        ("return dropped(x, module.generator)", "keep = masked(x, self)", True),
        ("return dropped(x, made())", "keep = masked(x, self)", False),
        ("own = made(); return dropped(x, own)", "keep = masked(x, self)", False),
        ("own = torch.Generator(); own.manual_seed(3); return dropped(x, own)", "keep = masked(x, self)", False),
        (
            "module.generator = torch.Generator().manual_seed(3)",
            "masked(x, self); keep = dropped(x, self.generator)",
            False,
        ),
        ("pass", "own = torch.Generator().manual_seed(self.seed); keep = dropped(x, own)", False),
        ("pass", "own = made(); keep = dropped(x, own)", False),
        ("pass", "keep = dropped(x, self.generator)", True),
    ],
)
def test_a_generator_that_is_made_anew_in_each_run_draws_alike(helper: str, draw: str, named: bool) -> None:
    found = codes(HELPED.replace("HELPER", helper) + generated(draw))
    assert found == ({"checkpoint-draws-anew": [10]} if named else {})


def test_where_the_generator_is_made_for_the_model_or_for_the_data_does_not_matter() -> None:
    program = generated("keep = torch.rand(len(x), 1, generator=self.generator) >= 0.4")
    program = program.replace("gen = torch", "def build():\n    return torch").replace("Drop(gen)", "Drop(build())")
    program += "\ndef data():\n    own = torch.Generator()\n    own.manual_seed(0)\n    return own\n"
    assert codes(program) == {"checkpoint-draws-anew": [17]}

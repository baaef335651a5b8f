"""Slips that fail nowhere (not called, frozen in vain, made anew, added to one row twice), and what is meant."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
import torch.nn.functional as F
from torch import nn
body, head = nn.Linear(3, 4), nn.Linear(4, 2)
x, y = torch.rand(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])
optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
"""


def lines(body: str, code: str) -> list[int]:
    """The first cause of each answer of a code."""
    return [one.causes[0].line for one in build(recorded(HEAD + body)).answers if one.code == code]


def here(body: str) -> list[int]:
    return [line_of(HEAD + body, "# here")]


TRAINING = """
for step in range(4):
    {}
    head(body(x)).sum().backward()
    optimizer.step()
"""


def test_a_zero_grad_that_is_not_called_is_the_one_cause() -> None:
    body = TRAINING.format("optimizer.zero_grad  # here")
    assert lines(body, "method-not-called") == here(body)
    assert lines(body, "gradients-applied-again") == []


@pytest.mark.parametrize("statement", ["body.weight", "optimizer.param_groups", "step_size = optimizer.step"])
def test_what_is_no_call_forgotten_is_none(statement: str) -> None:
    assert lines(TRAINING.format(statement), "method-not-called") == []


def test_a_method_that_is_named_in_code_that_did_not_run_is_none() -> None:
    assert lines("def never():\n    optimizer.step\n" + TRAINING.format("pass"), "method-not-called") == []


@pytest.mark.parametrize(
    "freezing",
    [
        "for p in body.parameters():\n    p.data.requires_grad_(False)  # here",
        "for value in body.state_dict().values():\n    value.requires_grad = False  # here",
        "for p in body.parameters():\n    p.detach().requires_grad = False  # here",
    ],
)
def test_what_was_frozen_in_vain(freezing: str) -> None:
    body = f"{freezing}\nhead(body(x)).sum().backward()\n"
    assert lines(body, "frozen-in-vain") == here(body)


@pytest.mark.parametrize(
    "freezing",
    [
        "body.requires_grad_(False)",
        "kept = [p.detach().requires_grad_(False) for p in body.parameters()]\ntotal = sum(k.sum() for k in kept)",
        "kept = [p.detach().clone().requires_grad_(False) for p in body.parameters()]",
    ],
)
def test_what_is_frozen_or_a_snapshot_is_none(freezing: str) -> None:
    assert lines(f"{freezing}\nhead(body(x)).sum().backward()\n", "frozen-in-vain") == []


NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.kept = None
    def forward(self, x):
        {}
        return self.kept(x)
net = Net()
for step in range(4):
    net(x).sum().backward()
"""


def test_a_layer_that_forward_makes_anew() -> None:
    body = NET.format("self.kept = nn.Linear(3, 1)  # here")
    assert lines(body, "layer-made-anew") == here(body)
    assert lines(NET.format("self.kept = self.kept or nn.Linear(3, 1)"), "layer-made-anew") == []
    generated = NET.format("self.kept = lambda x: F.linear(x, nn.Parameter(body(x)[:, :3]))")
    assert lines(generated, "layer-made-anew") == []  # (what others computed is wrapped: leaf-unreached)


def test_layers_that_a_generator_in_init_makes_are_made_once() -> None:
    body = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x
x = torch.ones(2, 3, requires_grad=True)
optimizer = torch.optim.SGD([x], lr=0.1)
Net()(x).sum().backward()
optimizer.step()
"""
    assert lines(body, "layer-made-anew") == []


BRANCH = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.kept = nn.Linear(3, 1)
    def fresh(self):
        layer = {}
        return layer
    def forward(self, x):
        return self.kept(x) + self.fresh()(x)
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(4):
    net(x).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


def test_a_layer_that_a_method_below_forward_makes_anew() -> None:
    body = BRANCH.format("nn.Linear(3, 1)  # here")
    assert lines(body, "layer-made-anew") == here(body)
    assert lines(BRANCH.format("self.kept"), "layer-made-anew") == []
    assert lines(BRANCH.format("nn.Linear(3, 1).requires_grad_(False)"), "layer-made-anew") == []


@pytest.mark.parametrize(
    "write",
    ["total[y] += head(body(x))  # here", "total[y] = total[y] + head(body(x))  # here"],
)
def test_an_addition_to_rows_that_come_several_times(write: str) -> None:
    body = f"total = torch.zeros(2, 2)\n{write}\ntotal.sum().backward()\n"
    assert lines(body, "repeated-index-write") == here(body)


@pytest.mark.parametrize(
    "write",
    [
        "total[torch.tensor([0, 1])] += head(body(x[:2]))",
        "total[y == 0] += 1",
        "total[y] = head(body(x))",
        "total.index_add_(0, y, head(body(x)))",
        "total.index_put_((y,), head(body(x)), accumulate=True)",
    ],
)
def test_rows_that_may_come_once_each_are_none(write: str) -> None:
    assert lines(f"total = torch.zeros(2, 2)\n{write}\n", "repeated-index-write") == []


@pytest.mark.parametrize(
    "loss",
    [
        "F.nll_loss(head(body(x)), y)  # here",
        "nn.NLLLoss()(head(body(x)).view(6, 2), y)  # here",
        "F.kl_div(head(body(x)), torch.full((6, 2), 0.5), reduction='batchmean')  # here",
    ],
)
def test_logits_where_logarithms_are_taken(loss: str) -> None:
    body = f"loss = {loss}\nloss.backward()\n"
    assert lines(body, "probabilities-as-logits") == here(body)


@pytest.mark.parametrize(
    "loss",
    ["F.nll_loss(head(body(x)).log_softmax(1), y)", "F.nll_loss(F.logsigmoid(head(body(x))), y)"],
)
def test_logarithms_are_none(loss: str) -> None:
    assert lines(f"loss = {loss}\nloss.backward()\n", "probabilities-as-logits") == []


@pytest.mark.parametrize(
    ("state", "is_found"),
    [
        ("nn.Sequential(body, head).state_dict()", True),
        ("{'model': pair.state_dict(), 'epoch': 3}", True),
        ("{f'module.{k}': v for k, v in pair.state_dict().items()}", True),
        ("nn.ModuleDict({'body': body, 'other': head}).state_dict()", False),
        ("nn.ModuleDict({'body': body}).state_dict()", False),
    ],
)
def test_a_state_of_other_keys(state: str, is_found: bool) -> None:
    body = (
        f"pair = nn.ModuleDict({{'body': body, 'head': head}})\npair.load_state_dict({state}, strict=False)  # here\n"
    )
    assert lines(f"{body}print(body(x))\n", "state-not-loaded") == here(body) * is_found


ANNEALED = """
{}
for step in range(5):
    optimizer.zero_grad()
    term = head(body(x)).pow(2).mean()
    {}
    (head(body(x)).mean() + weight * term).backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("before", "weight"),
    [
        ("total = 100", "weight = min(1, step // total)  # here"),
        ("total = 100", "weight = int(step / total) * 0.5  # here"),
        ("def part(step): return step // 100  # here", "weight = part(step)"),
    ],
)
def test_a_weight_that_stays_zero_as_it_is_made_whole(before: str, weight: str) -> None:
    body = ANNEALED.format(before, weight)
    assert lines(body, "factor-always-zero") == here(body)


@pytest.mark.parametrize("weight", ["weight = 0.0", "weight = step / 100", "weight = (step + 1) // 2"])
def test_a_weight_of_zero_or_one_that_rises_is_none(weight: str) -> None:
    assert lines(ANNEALED.format("", weight), "factor-always-zero") == []


@pytest.mark.parametrize(
    ("layer", "use", "is_found"),
    [
        ("drop = nn.Dropout(1.0)  # here", "weight = drop(body(x)).sum()", True),
        ("", "weight = F.dropout(body(x), p=1).sum()  # here", True),
        ("drop = nn.Dropout(0.9)", "weight = drop(body(x)).sum()", False),
    ],
)
def test_a_dropout_that_drops_everything(layer: str, use: str, is_found: bool) -> None:
    body = ANNEALED.format(layer, use)
    assert lines(body, "factor-always-zero") == (here(body) if is_found else [])


LOOP = """
w, hidden = torch.ones(3, requires_grad=True), torch.zeros(3)
for step in range(3):
    hidden = (hidden + w).tanh()
    {}
"""


@pytest.mark.parametrize("call", ["hidden.detach()  # here", "hidden.clamp(0, 1)  # here", "w.data.clip(0)  # here"])
def test_a_new_tensor_that_nothing_takes(call: str) -> None:
    body = LOOP.format(call)
    assert lines(body, "result-dropped") == here(body)


@pytest.mark.parametrize(
    "call", ["hidden = hidden.detach()", "hidden.detach_()", "print(hidden.detach())", "w.data.clamp_(0, 1)"]
)
def test_what_is_taken_or_done_in_place_is_none(call: str) -> None:
    assert lines(LOOP.format(call), "result-dropped") == []


UPDATE = """
import time
total, others = {{"w": torch.zeros(3)}}, set()
def update(hidden, step):
    hidden = hidden * 2
    for name, value in total.items():
        {}
    return hidden + total["w"].sum()
for step in range(3):
    w = update(torch.ones(3), step)
"""


@pytest.mark.parametrize(
    ("call", "advice"),
    [
        (
            "torch.add(total[name], hidden, alpha=0.1)  # here",
            "Write total[name] = torch.add(…), or total[name].add_(…).",
        ),
        (
            "torch.nn.functional.normalize(hidden, dim=len(name) - 1)  # here",
            "hidden = torch.nn.functional.normalize(…).",
        ),
        ("value.mul(0.9)  # here", "Write value.mul_(…)."),
        (
            "with torch.no_grad(): torch.clamp(body.weight, 0, len(name))  # here",
            "body.weight.clamp_(…) under no_grad.",
        ),
    ],
)
def test_an_update_that_nothing_takes(call: str, advice: str) -> None:
    body = UPDATE.format(call + "\n    head(body(hidden))")
    (answer,) = (one for one in build(recorded(HEAD + body)).answers if one.code == "result-dropped")
    assert [answer.causes[0].line] == here(body)
    assert answer.text.endswith(advice)


@pytest.mark.parametrize(
    "call",
    [
        "total[name] = torch.add(total[name], hidden)",
        "torch.add(value, hidden, out=value)",
        "F.relu(hidden, inplace=True)",
        "F.relu(hidden, True)",
        "torch.relu_(hidden)",
        "others.add(hidden + step)",
        "try: torch.add(value, hidden)\n        except RuntimeError: pass",
        "with torch.autograd.profiler.record_function('add'): torch.add(value, hidden)",
        "began = time.perf_counter(); torch.add(value, hidden)",
        "for _ in range(3): torch.add(hidden, hidden)",
        "torch.mul(value, torch.ones(3)) if step > 9 else None",
    ],
)
def test_what_is_written_or_only_tried_is_none(call: str) -> None:
    assert lines(UPDATE.format(call), "result-dropped") == []


def test_what_is_not_gone_on_with_may_be_looked_at_by_others() -> None:
    body = UPDATE.format("part = value * 2; torch.add(part, hidden)")
    assert lines(body, "result-dropped") == []
    assert lines(body.replace("add(part, hidden)", "add(part, hidden); part.sum()"), "result-dropped") == []  # one line
    assert lines(
        UPDATE.format("part = value * 2\n        torch.add(part, hidden)\n        part.sum()"), "result-dropped"
    )


def test_a_dropped_detach_is_the_cause_of_a_second_backward() -> None:
    body = LOOP.format("hidden.detach()  # here\n    hidden.sum().backward()")
    assert lines(body, "graph-used-twice") == here(body)


TEACHER = """
teacher = nn.Linear(3, 4)
for step in range(3):
    optimizer.zero_grad()
    supervised = F.cross_entropy(head(body(x)), y)
    with torch.no_grad():
        target = teacher(x)
        {}
    loss = supervised + (given - target).pow(2).mean()
    {}
    loss.backward()
    optimizer.step()
"""


def test_a_students_call_in_a_teachers_block_is_the_line_to_change() -> None:
    body = TEACHER.format("given = body(x)  # here", "pass")
    assert lines(body, "term-without-gradient") == here(body)
    body = TEACHER.format("given = body(x)  # here", "loss = (given - target).pow(2).mean().requires_grad_()")
    assert lines(body, "backward-reached-nothing") == here(body)


FUNCTION = """
class Shift(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, by):
        ctx.rows = x.shape[0]
        {}
    @staticmethod
    def backward(ctx, grad):
        {}
by = torch.zeros(4, requires_grad=True)
Shift.apply(body(x), by).sum().backward()
"""


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        ("return x + by", "return grad, grad.mean(0)  # here"),
        ("return (x + by).mean(0)", "return grad.expand(ctx.rows, 4), grad  # here"),
    ],
)
def test_a_backward_that_averages_and_forward_does_not(forward: str, backward: str) -> None:
    body = FUNCTION.format(forward, backward)
    assert lines(body, "backward-reduces-otherwise") == here(body)


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        ("return x + by", "return grad, grad.sum(0)"),
        ("return (x + by).mean(0)", "return grad.expand(ctx.rows, 4) / ctx.rows, grad"),
        ("return (x + by).mean(0)", "return grad.expand(ctx.rows, 4) * (1 / ctx.rows), grad"),
        ("return x / x.std() + by", "return grad - grad.mean(0), grad.sum(0)"),
    ],
)
def test_means_of_both_halves_are_none(forward: str, backward: str) -> None:
    assert lines(FUNCTION.format(forward, backward), "backward-reduces-otherwise") == []


def test_what_set_the_values_that_a_flat_function_never_leaves() -> None:
    body = """
nn.init.constant_(body.bias, -50.0)  # here
for step in range(5):
    optimizer.zero_grad()
    head(torch.relu(body(x))).pow(2).mean().backward()
    optimizer.step()
"""
    assert lines(body, "gradient-always-zero") == here(body)


SCALED = """
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for step in range(3):
    optimizer.zero_grad()
    scaler.scale(head(body(x)).sum()).backward()
    {}
    scaler.update(1024.0)
"""


@pytest.mark.parametrize(
    ("step", "is_found"),
    [
        ("optimizer.step()  # here", True),
        ("scaler.step(optimizer)", False),
        ("scaler.unscale_(optimizer)\n    optimizer.step()", False),
        ("[p.grad.div_(1024) for p in [*body.parameters(), *head.parameters()]]\n    optimizer.step()", False),
    ],
)
def test_a_step_with_gradients_that_are_scaled_still(step: str, is_found: bool) -> None:
    body = SCALED.format(step)
    assert lines(body, "scaled-gradients-applied") == (here(body) if is_found else [])


KEPT = """
class Node:
    def __init__(self, state, parent):
        self.state, self.parent = state, parent
kept, node = [], None
for step in range(5):
    out = head(torch.relu(body(x)))
    out.sum().backward()
    {}
"""


@pytest.mark.parametrize(
    "keeping",
    [
        "node = Node(out, node)  # here",
        "node = Node(state=out, parent=node)  # here",
        "kept.append(lambda value=out: value)  # here",
    ],
)
def test_what_keeps_results_otherwise_than_in_a_list(keeping: str) -> None:
    body = KEPT.format(keeping)
    assert lines(body, "graph-kept-after-pass") == here(body)


@pytest.mark.parametrize("keeping", ["node = Node(out.detach(), node)", "node = Node(out, None)"])
def test_what_keeps_no_graph_or_the_last_one_is_none(keeping: str) -> None:
    assert lines(KEPT.format(keeping), "graph-kept-after-pass") == []


DATA = """
data = torch.ones(4, 3)
def {}(i):
    row = data[i]
    {}
    return row
for epoch in range(3):
    batch = torch.stack([{}(i) for i in range(4)])
"""


@pytest.mark.parametrize("write", ["row += 0.1 * torch.randn(3)  # here", "row /= 255  # here", "row.mul_(2)  # here"])
def test_data_that_is_changed_each_time_it_is_given_out(write: str) -> None:
    body = DATA.format("augmented", write, "augmented")
    assert lines(body, "data-written-again") == here(body)


@pytest.mark.parametrize(
    ("function", "write"),
    [
        ("augmented", "row = row + torch.randn(3)"),
        ("augmented", "row = row.clone()\n    row += torch.randn(3)"),
        ("decay", "row *= 0.9"),
        ("augmented", "row *= 0.9\n    row += torch.ones(3)"),
        ("augmented", "row.copy_(torch.randn(3))"),
    ],
)
def test_a_copy_and_a_state_that_is_kept_on_purpose_are_none(function: str, write: str) -> None:
    assert lines(DATA.format(function, write, function), "data-written-again") == []


TARGET = """
target = nn.Linear(3, 4)
for step in range(3):
    optimizer.zero_grad()
    head(body(x)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        for p, t in zip(body.parameters(), target.parameters()):
            {}
"""


def test_a_target_that_only_the_loops_variable_moves() -> None:
    body = TARGET.format("t = 0.1 * p + 0.9 * t  # here")
    assert lines(body, "update-lost") == here(body)
    assert lines(TARGET.format("t.copy_(0.1 * p + 0.9 * t)"), "update-lost") == []


def test_a_closure_that_calls_no_backward() -> None:
    body = """
search = torch.optim.LBFGS(body.parameters())
def closure():
    search.zero_grad()
    loss = body(x).pow(2).sum()
    return loss
for step in range(4):
    search.step(closure)  # here
"""
    assert lines(body, "closure-without-backward")[:1] == [line_of(HEAD + body, "loss = ")]
    assert lines(body, "step-without-backward") == []
    assert lines(body.replace("return loss", "loss.backward(); return loss"), "closure-without-backward") == []


COUNTED = """
for i in range(8):
    {}
    if {}:{}
        optimizer.step()
        optimizer.zero_grad()
"""


@pytest.mark.parametrize(
    ("test", "is_found"), [("i + 1 % 4 == 0", True), ("(i + 1) % 4 == 0", False), ("(i + 1) % 16 == 0", True)]
)
def test_a_step_under_a_condition_that_was_never_true(test: str, is_found: bool) -> None:
    body = COUNTED.format("head(body(x)).sum().backward()", test, "  # here")
    assert lines(body, "step-never-made") == (here(body) if is_found else [])


def test_gradients_that_a_loops_variable_alone_gets_scaled() -> None:
    body = """
for step in range(4):
    optimizer.zero_grad()
    head(body(x)).sum().backward()
    for g in [p.grad for p in body.parameters()]:
        g = g / (g.norm() + 1)  # here
    optimizer.step()
"""
    assert lines(body, "update-lost") == here(body)
    assert lines(body.replace("g = g / (", "g /= ("), "update-lost") == []


def test_parts_of_a_sum_that_has_a_pass_for_each() -> None:
    body = """
for step in range(3):
    optimizer.zero_grad()
    hidden, total = body(x), 0
    for part in (head(hidden).sum(), hidden.pow(2).sum()):
        total = total + part
        total.backward(retain_graph=True)  # here
    optimizer.step()
"""
    assert lines(body, "term-counted-twice") == here(body)
    assert lines(body.replace("total.backward", "part.backward"), "term-counted-twice") == []


BEST = """
import copy
adam = torch.optim.Adam(body.parameters())
for step in range(4):
    head(body(x)).sum().backward()
    {}
    adam.step()
{}
"""


@pytest.mark.parametrize(
    ("keeping", "loading", "is_found"),
    [
        ("best = adam.state_dict()  # here", "adam.load_state_dict(best)", True),
        ("best = (copy.deepcopy(body.state_dict()), adam.state_dict())  # here", "adam.load_state_dict(best[1])", True),
        ("best = copy.deepcopy(adam.state_dict())", "adam.load_state_dict(best)", False),
        ("best = (copy.deepcopy(adam.state_dict()), 1)", "adam.load_state_dict(best[0])", False),
        ("best = adam.state_dict()", "torch.optim.Adam(body.parameters()).load_state_dict(best)", False),
    ],
)
def test_an_optimizers_state_that_is_kept_without_a_copy(keeping: str, loading: str, is_found: bool) -> None:
    body = BEST.format(keeping, loading)
    assert lines(body, "optimizer-state-kept") == (here(body) if is_found else [])


TWO = """
import copy
a, b = torch.optim.Adam(body.parameters()), torch.optim.Adam(head.parameters())
def both(times):
    for _ in range(times):
        head(body(x)).sum().backward()
        a.step(); b.step()
both(2)
twin = (nn.Linear(3, 4), nn.Linear(4, 1))
c, d = torch.optim.Adam(twin[0].parameters()), torch.optim.Adam(twin[1].parameters())
{}
def others(times):
    for _ in range(times):
        twin[1](twin[0](x)).sum().backward()
        c.step(); d.step()
{}
"""


@pytest.mark.parametrize(
    ("loading", "after", "is_found"),
    [
        ("c.load_state_dict(a.state_dict())  # here", "both(1); others(1)", True),
        ("kept = {'opt': a.state_dict()}\nc.load_state_dict(kept['opt'])  # here", "both(1); others(1)", True),
        ("c.load_state_dict(copy.copy(a.state_dict()))  # here", "both(1); others(1)", True),
        (
            "state = copy.deepcopy(a.state_dict())\nc.load_state_dict(state)\na.load_state_dict(state)  # here",
            "both(1); others(1)",
            True,
        ),
        ("c.load_state_dict(copy.deepcopy(a.state_dict()))", "both(1); others(1)", False),
        ("c.load_state_dict(a.state_dict())", "others(2)", False),
        ("c.load_state_dict(a.state_dict())", "both(2)", False),
        ("c = torch.optim.Adam(body.parameters()); c.load_state_dict(a.state_dict())", "both(1); others(1)", False),
        ("a = torch.optim.SGD(body.parameters(), 0.1); c.load_state_dict(a.state_dict())", "both(1); others(1)", False),
    ],
)
def test_a_state_that_two_optimizers_have(loading: str, after: str, is_found: bool) -> None:
    body = TWO.format(loading, after)
    assert lines(body, "optimizer-state-shared") == (here(body) if is_found else [])


def test_a_loss_whose_hook_goes_on_from_there_reaches_what_it_is_meant_to() -> None:
    body = """
def go_on(grad):
    with torch.enable_grad():
        for i in range(2): head(body(x[i::2])).backward(kept[i] * grad)
for step in range(3):
    parts = [head(body(x[i::2])).detach().requires_grad_() for i in range(2)]
    loss = sum(part.square().mean() for part in parts)
    kept = torch.autograd.grad(loss, parts)
    optimizer.zero_grad()
    loss = loss.detach().requires_grad_()
    loss.register_hook(go_on)
    loss.backward()
    optimizer.step()
"""
    assert lines(body, "backward-reached-nothing") == []
    assert lines(body.replace("register_hook", "register_hook if step > 9 else print"), "backward-reached-nothing")

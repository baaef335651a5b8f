"""What the program does inside backward passes, in hooks of any kind: counted by its line, and what it wrote."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

import gradscope
from gradscope.recorder import tape
from gradscope.recorder.repetition import forgetting
from gradscope.recorder.session import Recorder
from gradscope.recording import Recording
from gradscope.recording.rows import EventKind, OpKind
from tests.analysis.building import line_of, recorded
from tests.recorder.reading import events_read

HOOKS = """
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
w = torch.ones(3, requires_grad=True)
def look(value):
    value = value[0] if isinstance(value, (tuple, list)) else value
    return value.square().sum()  # look
def given(*args):
    look([one for one in args if one is not None and not isinstance(one, nn.Module)][-1])
"""

REGISTERED = {
    "of a tensor": "y = w * 2\ny.register_hook(given)",
    "of a leaf": "w.register_hook(given)\ny = w * 2",
    "after accumulation": "w.register_post_accumulate_grad_hook(given)\ny = w * 2",
    "of a module": "net = nn.Linear(3, 1)\nnet.register_full_backward_hook(given)\ny = net(w)",
    "before a module": "net = nn.Linear(3, 1)\nnet.register_full_backward_pre_hook(given)\ny = net(w)",
    "of a node": "y = w * 2\ny.grad_fn.register_hook(given)",
    "before a node": "y = w * 2\ny.grad_fn.register_prehook(given)",
    "of several tensors": "y = w * 2\ntorch.autograd.graph.register_multi_grad_hook([y], given)",
    "of what is saved": "with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: (given(x), x)[1]):\n"
    "    y = w.exp()",
}


def inside(recording: Recording) -> dict[tuple[int, str, str], int]:
    """How often functions were called inside passes, by their line, their name, and within what."""
    rows = events_read(recording, EventKind.RECOMPUTED)
    return {(row.line, row.detail["function"], row.detail.get("within", "")): row.subject for row in rows}


def done(recording: Recording) -> list[tuple[int, str, list[int], list[str]]]:
    """What was done to tensors inside passes: the line, what, how often to each, and their names."""
    rows = events_read(recording, EventKind.INSIDE_PASS)
    return [(row.line, row.detail["did"], row.detail["times"], row.names) for row in rows]


@pytest.mark.parametrize("how", REGISTERED)
@pytest.mark.parametrize("start", ["y.sum().backward()", "torch.autograd.grad(y.sum(), w)"])
def test_calls_of_a_hook_are_counted_at_their_line(how: str, start: str) -> None:
    if how == "after accumulation" and "grad(" in start:
        start = "torch.autograd.backward(y.sum())"
    source = HOOKS + REGISTERED[how] + "\n" + start
    recording = recorded(source)
    line = line_of(source, "# look")
    assert inside(recording) == {(line, "Tensor.square", "hooks"): 1, (line, "Tensor.sum", "hooks"): 1}
    assert not done(recording)
    assert not [op for op in recording.ops if line == recording.spans[op.span].line]


def test_nothing_is_counted_without_hooks() -> None:
    source = HOOKS + "net = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))\nlook(net(w)).backward()"
    recording = recorded(source)
    assert not inside(recording) and not done(recording)


STEPS = """
import torch
w, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
other, seen = torch.zeros(3), []
optimizer = torch.optim.SGD([w], lr=0.1)
def update(leaf):
    optimizer.step()  # step
    optimizer.zero_grad()  # clear
def add(grad):
    other.add_(grad)  # add
    made = torch.zeros(3)
    made.add_(grad)
    grad.mul_(1)
    seen.append((w * grad).sum())
def hooks():
    w.register_post_accumulate_grad_hook(update)
    v.register_hook(add)
def run(times):
    for step in range(times):
        (w * v).sum().backward()
"""


def test_what_hooks_wrote_is_noted_with_its_line() -> None:
    source = STEPS + "hooks()\nrun(3)"
    step, clear, add = (line_of(source, f"# {what}") for what in ("step", "clear", "add"))
    assert sorted(done(recorded(source))) == sorted(
        [(step, "wrote", [3], ["w"]), (clear, "cleared", [3], ["w"]), (add, "wrote", [3], ["other"])]
    )


def test_what_is_done_outside_of_passes_is_none_of_it() -> None:
    source = STEPS + "for k in range(3):\n    run(1)\n    update(w)\n    add(v.detach())"
    recording = recorded(source)
    assert not done(recording) and not inside(recording)
    assert [op.kind for op in recording.ops].count(OpKind.STEP) == 3


def test_what_a_program_repeats_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "FROM_BYTES", 0)
    monkeypatch.setattr(forgetting, "EVERY", 32)
    monkeypatch.setattr(tape, "FLUSH_OPS", 32)
    source = STEPS + "hooks()\nrun(400)"
    recording = recorded(source)
    step, clear, add = (line_of(source, f"# {what}") for what in ("step", "clear", "add"))
    assert sorted(done(recording)) == sorted(
        [(step, "wrote", [400], ["w"]), (clear, "cleared", [400], ["w"]), (add, "wrote", [400], ["other"])]
    )
    assert sum(recording.alike.column("times")) > 300
    assert inside(recording)[step, "optim.SGD.step", "hooks"] == 400


def test_the_backward_of_a_function_of_the_program() -> None:
    source = """
import torch
total = torch.zeros(3)
class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2
    @staticmethod
    def backward(ctx, grad):
        total.add_(grad)  # add
        return grad * 2
w = torch.ones(3, requires_grad=True)
w.register_hook(lambda grad: grad.clamp(-1, 1))  # clamp
for _ in range(3):
    Twice.apply(w).sum().backward()
"""
    recording, add = recorded(source), line_of(source, "# add")
    assert done(recording) == [(add, "wrote", [3], ["total"])]
    assert inside(recording) == {
        (add, "Tensor.add_", "Twice.backward"): 3,
        (add + 1, "Tensor.mul", "Twice.backward"): 3,
        (line_of(source, "# clamp"), "Tensor.clamp", "hooks"): 3,
    }


def test_a_checkpointed_function_is_counted_once() -> None:
    source = """
import torch
from torch.utils.checkpoint import checkpoint
w = torch.ones(3, requires_grad=True)
def block(x):
    return x.sin().exp()  # block
for reentrant in (False, True):
    y = checkpoint(block, w * 2, use_reentrant=reentrant)
    y.register_hook(lambda grad: grad.abs())  # hook
    y.sum().backward()
"""
    line = line_of(source, "# block")
    assert inside(recorded(source)) == {
        (line, "Tensor.sin", ""): 2,
        (line, "Tensor.exp", ""): 2,
        (line_of(source, "# hook"), "Tensor.abs", "hooks"): 2,
    }


def test_a_pass_that_a_hook_begins() -> None:
    source = """
import torch
w, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
v.register_hook(lambda grad: grad * 3)  # inner
def begins(grad):
    with torch.enable_grad():
        (v * 2).sum().backward()  # pass
w.register_hook(begins)
(w * 2).sum().backward()
print(v.grad, w.grad)
"""
    found = inside(recorded(source))
    assert found[line_of(source, "# pass"), "Tensor.backward", "hooks"] == 1
    assert found[line_of(source, "# inner"), "Tensor.mul", "hooks"] == 1


def test_passes_of_two_threads() -> None:
    source = """
import threading
import torch
def runs(times):
    w = torch.ones(3, requires_grad=True)
    w.register_hook(lambda grad: grad.abs())  # hook
    for _ in range(times):
        (w * 2).sum().backward()
threads = [threading.Thread(target=runs, args=(times,)) for times in (3, 5)]
for one in threads:
    one.start()
for one in threads:
    one.join()
"""
    assert inside(recorded(source)) == {(line_of(source, "# hook"), "Tensor.abs", "hooks"): 8}


def second_derivatives() -> list[Any]:
    """Gradients of a program whose hooks compute, some of them with a graph."""
    torch.manual_seed(0)
    kept: list[torch.Tensor] = []
    w = torch.randn(3, requires_grad=True)
    net = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True).eval()
    x = torch.randn(1, 2, 4)

    def hook(grad: torch.Tensor) -> torch.Tensor:
        kept.append((grad * w).sum() + net(x).sum().detach() + torch.rand(()))
        return grad.clamp(-0.5, 0.5) * w

    y = w.sin()
    y.register_hook(hook)
    (first,) = torch.autograd.grad(y.exp().sum(), w, create_graph=True)
    (first.sum() + kept[0]).backward()
    names = [first.grad_fn.name(), kept[0].grad_fn.name(), torch.overrides._get_current_function_mode_stack()]
    return [first.tolist(), w.grad.tolist(), [one.item() for one in kept], names[:2]]


def test_the_program_computes_what_it_would_without_a_recorder() -> None:
    before = second_derivatives()
    with gradscope.record():
        during = second_derivatives()
    assert during == before


def test_an_error_in_a_hook_is_the_program_s() -> None:
    w = torch.ones(3, requires_grad=True)
    w.register_hook(lambda grad: grad @ torch.ones(2))
    with Recorder(is_user=lambda name: name == __file__) as recorder:
        modes = torch.overrides._get_current_function_mode_stack()
        with pytest.raises(RuntimeError, match="size") as raised:
            w.sum().backward()
        assert torch.overrides._get_current_function_mode_stack() == modes
    last = raised.traceback.filter(raised)[-1]
    assert last.path.name == "test_inside_passes.py" and "@" in str(last.statement)
    assert not recorder.recording.faults
    assert [key[1] for key in inside(recorder.recording)] == ["torch.ones", "Tensor.matmul"]


def test_a_hook_that_runs_when_the_recorder_is_gone() -> None:
    w = torch.ones(3, requires_grad=True)
    stops: list[Recorder] = []

    def hook(grad: torch.Tensor) -> torch.Tensor:
        if stops:
            stops.pop().stop()
        return grad * 2

    w.register_hook(hook)
    recorder = Recorder(is_user=lambda name: name == __file__)
    recorder.start()
    stops.append(recorder)
    w.sum().backward()
    left = [torch._C._pop_torch_function_stack() for _ in range(torch._C._len_torch_function_stack())]
    assert len(left) == 1  # torch itself puts the recorder's back after the call
    w.sum().backward()
    assert w.grad.tolist() == [4.0] * 3
    assert not inside(recorder.recording) and not recorder.recording.faults


def test_two_recorders_both_count() -> None:
    w = torch.ones(3, requires_grad=True)
    w.register_hook(lambda grad: grad.abs())
    with Recorder(is_user=lambda name: name == __file__) as outer:
        w.sum().backward()
        with Recorder(is_user=lambda name: name == __file__) as inner:
            w.sum().backward()
    assert [list(inside(one.recording).values()) for one in (outer, inner)] == [[2], [1]]


def test_a_muted_recorder_counts_nothing() -> None:
    w = torch.ones(3, requires_grad=True)
    w.register_hook(lambda grad: grad.abs())
    with Recorder(is_user=lambda name: name == __file__) as recorder, recorder.mute():
        w.sum().backward()
    assert not inside(recorder.recording)


def test_a_thread_that_is_not_recorded() -> None:
    w, seen = torch.ones(3, requires_grad=True), Counter[str]()
    w.register_hook(lambda grad: seen.update([type(grad).__name__]))

    def runs() -> None:
        w.sum().backward()

    barrier = threading.Event()
    thread = threading.Thread(target=lambda: (barrier.wait(), runs()))
    thread.start()
    with Recorder(is_user=lambda name: name == __file__) as recorder:
        barrier.set()
        thread.join()
    assert seen == {"Tensor": 1} and not inside(recorder.recording)

"""Recordings inside recordings and in several threads, and what is left when one ends."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import ClassVar

import pytest
import torch
import torch.optim.optimizer as optimizers
from torch.overrides import TorchFunctionMode

import gradscope
from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.session import Recorder
from tests.recorder.reading import functions, op_named


def installed() -> tuple[object, ...]:
    """All that a recorder puts into the process while it is at work."""
    return (
        torch._C._len_torch_function_stack(),
        threading.Thread.start,
        threading.Thread._bootstrap_inner,
        dict(optimizers._global_optimizer_pre_hooks),
        dict(optimizers._global_optimizer_post_hooks),
        torch.optim.Optimizer.zero_grad,
        torch.overrides.has_torch_function,
    )


def test_nothing_is_left_installed():
    before = installed()
    with gradscope.record():
        alone = installed()
        assert not [now for now, then in zip(alone, before, strict=True) if now == then]
        with gradscope.record():
            torch.ones(1)
        assert installed() == alone
    assert installed() == before


def test_a_recording_inside_another_sees_the_same_ops_and_does_not_show_in_it():
    with gradscope.record() as outer:
        x = torch.ones(2, requires_grad=True)
        with gradscope.record() as inner:
            (x * 2).sum().backward()
        y = x + 1
    assert functions(inner) == ["Tensor.mul", "Tensor.sum", "Tensor.backward"]
    assert functions(outer) == ["torch.ones", *functions(inner), "Tensor.add"]
    spans = [[recording.spans[op_named(recording, name)[1].span].line for name in functions(inner)]
             for recording in (inner, outer)]  # fmt: skip
    assert spans[0] == spans[1]
    del y


def test_a_mode_of_the_programs_around_a_recording_sees_what_it_would_without():
    class Noting(TorchFunctionMode):
        def __init__(self):
            super().__init__()
            self.noted = []

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.noted.append(func)
            return func(*args, **(kwargs or {}))

    def work():
        w = torch.ones(2, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=0.1)
        loss = torch.nn.functional.relu(w, inplace=False).view(2, 1).sum()
        loss.backward()
        optimizer.step()
        with pytest.raises(RuntimeError):
            w + torch.ones(3)

    with Noting() as alone:
        work()
    with Noting() as around, gradscope.record() as recording:
        work()
    assert around.noted == alone.noted
    assert "F.relu" in functions(recording)


def test_a_thread_started_in_a_recording_is_part_of_it():
    def work() -> None:
        torch.ones(1) + 1

    with gradscope.record() as recording:
        thread = threading.Thread(target=work, name="worker")
        thread.start()
        thread.join()
        torch.zeros(1)
    assert functions(recording) == ["torch.ones", "Tensor.add", "torch.zeros"]
    assert [op.thread for op in recording.ops] == [1, 1, 0]
    assert recording.threads[1] == "worker"


def test_recordings_in_two_threads_at_once_see_their_own_ops_only():
    seen: dict[str, list[str]] = {}
    together = threading.Barrier(2)

    def work(name: str, value: float) -> None:
        with gradscope.record() as recording:
            together.wait()
            for _ in range(50):
                torch.full((1,), value).neg() if name == "neg" else torch.full((1,), value).abs()
            together.wait()
        assert not recording.faults
        seen[name] = functions(recording)

    threads = [threading.Thread(target=work, args=(name, 1.0)) for name in ("neg", "abs")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {name: ["torch.full", f"Tensor.{name}"] * 50 for name in ("neg", "abs")}


class Ready(torch.autograd.Function):
    """Not seen by function modes: its result is put down to the call that a name was assigned from."""

    results: ClassVar[list[torch.Tensor]] = []

    @staticmethod
    def forward(ctx, x):
        return Ready.results.pop()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_in_one_line_what_comes_before_the_recording_is_told_from_what_comes_in_it():
    w = torch.ones(2, requires_grad=True)
    Ready.results += torch.ones(2), torch.ones(2)
    # fmt: off
    with gradscope.record() as recording: inside = Ready.apply(w); inside + 1  # noqa: E701, E702
    assert functions(recording) == ["Ready.apply", "Tensor.add"]
    manager = gradscope.record(); before = Ready.apply(w); recording = manager.__enter__(); before + 1  # noqa: E702
    # fmt: on
    manager.__exit__(None, None, None)
    assert functions(recording) == ["Tensor.add"]


def test_a_recording_on_a_stack_of_contexts_is_the_callers():
    with ExitStack() as stack:
        recording = stack.enter_context(gradscope.record())
        torch.ones(1)
    assert recording.info.target == __file__
    assert [op.span for op in recording.ops] == [0] and recording.files[recording.spans[0].file].path == __file__


def test_what_torch_reads_of_gradients_by_itself_is_no_op():
    net = torch.nn.Linear(1, 1)
    with gradscope.record() as recording:
        net.zero_grad()
        assert net.weight.grad is None
    assert functions(recording) == ["nn.Module.zero_grad", "Tensor.grad.__get__"]


def test_an_exception_ends_the_recording_and_is_its_outcome():
    try:
        with gradscope.record() as recording:
            torch.ones(1)
            raise KeyError("lost")
    except KeyError:
        pass
    assert (recording.info.outcome.kind, recording.info.outcome.error_type) == ("exception", "KeyError")
    assert functions(recording) == ["torch.ones"]


def test_a_recording_that_ends_in_the_midst_of_a_call_takes_no_other_mode_away():
    depths = []

    def stops(gradient):
        before = torch._C._len_torch_function_stack()
        recorder.stop()
        depths.append(torch._C._len_torch_function_stack() - before)

    recorder = Recorder(is_user=lambda name: name == __file__)
    recorder.start()
    try:
        h = torch.ones(2, requires_grad=True) * 2
        h.register_hook(stops)
        h.sum().backward()
    finally:
        left = [torch._C._pop_torch_function_stack() for _ in range(torch._C._len_torch_function_stack())]
    assert depths == [0]
    assert [type(mode) for mode in left] == [RecorderMode]  # torch itself puts it back after the call


@pytest.mark.parametrize("max_ops", [None, 0])
def test_a_call_that_raises_is_made_once(max_ops):
    ran = []

    def refuse(gradient):
        ran.append(gradient)
        raise ValueError("no")

    w = torch.ones(2, requires_grad=True)
    with gradscope.record(max_ops=max_ops) as recording:
        torch.ones(1)
        h = w * 2
        h.register_hook(refuse)
        with pytest.raises(ValueError, match="no") as caught:
            h.sum().backward()
    assert len(ran) == 1
    assert caught.value.__context__ is None
    assert recording.faults == []


def test_no_more_ops_are_kept_than_were_asked_for():
    with gradscope.record(max_ops=100) as recording:
        x = torch.ones(1)
        for _ in range(500):
            x = x + 1
    assert len(recording.ops) == 100
    assert sum(recording.left_out.column("left_out")) == 401

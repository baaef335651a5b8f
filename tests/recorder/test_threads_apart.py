"""What is known of one thread's call stays that thread's, whatever another one does in the middle of it.

Threads take turns here by events: what comes between two steps comes there each time.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gradscope.recorder.session import Recorder
from gradscope.recording import NONE, Recording
from gradscope.recording.rows import Field
from tests.analysis.building import recorded
from tests.recorder.reading import changes_of, functions, node_name, op_named, tensor_called


def recorder_here(**options: Any) -> Recorder:
    return Recorder(is_user=lambda name: name == __file__, **options)


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def assert_no_faults(recording: Recording) -> None:
    assert [fault.traceback for fault in recording.faults] == []


class Square(torch.autograd.Function):
    """Not seen by function modes: its result turns up as an unknown tensor."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


def test_the_gradient_that_a_tensor_had_before_another_was_set():
    class SetsAnother(torch.Tensor):
        """While its gradient is set, another thread sets another tensor's."""

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            if func == torch.Tensor.grad.__set__:
                in_thread(lambda: setattr(other, "grad", None))
            return super().__torch_function__(func, types, args, kwargs or {})

    with recorder_here() as recorder:
        other, gradient, second = torch.ones(2), torch.ones(2), torch.ones(2)
        other.grad = gradient
        mine = torch.ones(2).as_subclass(SetsAnother)
        mine.grad = second
    recording = recorder.recording
    rows = {name: tensor_called(recording, name) for name in ("other", "gradient", "mine", "second")}
    assert changes_of(recording, rows["other"], Field.GRAD) == [(NONE, rows["gradient"]), (rows["gradient"], NONE)]
    assert changes_of(recording, rows["mine"], Field.GRAD)[0] == (NONE, rows["second"])
    assert_no_faults(recording)


def test_hooks_of_one_thread_are_not_forgotten_over_an_op_of_another():
    unpacked = []

    def unpack(tensor):
        unpacked.append(tensor)
        return tensor

    with recorder_here() as recorder:
        x = torch.ones(2, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack):
            x + 1
            y = Square.apply(x)
            in_thread(lambda: torch.ones(1) + 1)
        z = y + 1
    assert not unpacked
    assert op_named(recorder.recording, "Square.apply")
    assert_no_faults(recorder.recording)
    del z


def test_a_node_leads_to_what_its_op_took_and_not_to_one_with_the_same_number():
    """Both threads are fresh: the product of the one and that of the other are their first nodes."""

    def takes():
        w = torch.ones(2, requires_grad=True)
        near = w * 2
        in_thread(lambda: made.append(near.detach().requires_grad_() * 3))
        ended.append(made[0].sum())

    made: list[torch.Tensor] = []
    ended: list[torch.Tensor] = []
    with recorder_here() as recorder:
        in_thread(takes)
    recording = recorder.recording
    by_op = {node.op: row for row, node in enumerate(recording.nodes) if node.variable == NONE}
    sums, theirs = (by_op[op_named(recording, *name)[0]] for name in (("Tensor.sum",), ("Tensor.mul", 1)))
    assert [edge.next for edge in recording.edges if edge.node == sums] == [theirs]
    assert_no_faults(recording)


@pytest.mark.parametrize("sets", [torch.Tensor.requires_grad_, torch.Tensor.retain_grad])
def test_a_node_of_another_thread_is_not_taken_for_one_of_this_thread(sets):
    """Each thread numbers its nodes from the same number."""
    made: list[torch.Tensor] = []

    def make():
        far = torch.ones(2, requires_grad=True)
        made.append(far.exp().sin())

    with recorder_here() as recorder:
        w = torch.ones(2, requires_grad=True)
        near = w.exp().sin()
        in_thread(make)
        theirs = made[0]
        sets(theirs)
        del near
    changes = changes_of(recorder.recording, tensor_called(recorder.recording, "theirs"), Field.GRAD_FN)
    assert changes == []
    assert_no_faults(recorder.recording)


def test_what_a_call_sets_of_an_unknown_tensor_is_looked_up_among_its_threads_nodes():
    ready = torch.ones(2)

    class Ready(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return ready

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    def others():
        w = torch.ones(2, requires_grad=True)
        kept.append(w.exp().sin().cos())

    def sets():  # a fresh thread too: both number their nodes from 0
        x = torch.ones(2, requires_grad=True)
        in_thread(others)
        Ready.apply(x).retain_grad()

    kept: list[torch.Tensor] = []
    with recorder_here() as recorder:
        in_thread(sets)
    recording = recorder.recording
    op, _ = op_named(recording, "Tensor.retain_grad")
    (row,) = [use.tensor for use in recording.uses if use.op == op]
    assert node_name(recording, recording.tensors[row].node) == "ReadyBackward"
    assert_no_faults(recording)


def test_an_expression_that_one_thread_evaluates_mutes_no_other():
    with recorder_here() as recorder:
        with recorder.mute():
            torch.zeros(1)
            in_thread(lambda: torch.zeros(2))  # it was started by what is muted

        muting, go_on = threading.Event(), threading.Event()

        def evaluates():
            with recorder.mute():
                muting.set()
                go_on.wait()
                torch.zeros(3)

        thread = threading.Thread(target=evaluates)
        thread.start()
        muting.wait()
        with recorder.mute(), recorder.mute():
            torch.zeros(4)
            go_on.set()
            thread.join()
        torch.ones(5)
        in_thread(lambda: torch.full((6,), 1))
    assert functions(recorder.recording) == ["torch.ones", "torch.full"]


def test_texts_and_counts_are_written_under_the_lock():
    recorder = recorder_here(max_ops=2)
    unlocked: list[str] = []
    lock, text = recorder._observer.lock, recorder._tape.text

    def watched_text(written: str) -> int:
        if not lock._is_owned():
            unlocked.append(written)
        return text(written)

    class Counts(dict):
        def __setitem__(self, key, value):
            if not lock._is_owned():
                unlocked.append(f"count of {key}")
            super().__setitem__(key, value)

    recorder._tape.text, recorder._observer.after_limit.left_out = watched_text, Counts()
    with recorder:
        for _ in range(2):
            x = torch.ones(2, requires_grad=True)
            (x * 2).sum().backward()
            torch.nn.Linear(1, 1)
            recorder.observe_watch("x", __file__, 1, "text", x, False)
    assert unlocked == []
    assert sum(recorder.recording.left_out.column("left_out")) > 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_does_not_wait_for_a_thread_that_it_has_not():
    held, release = threading.Event(), threading.Event()

    def holds():
        with recorder._observer.lock:
            held.set()
            release.wait()

    with recorder_here() as recorder:
        thread = threading.Thread(target=holds)
        thread.start()
        held.wait()
        child = os.fork()
        if child == 0:
            torch.sinc(torch.ones(1))  # a function that was not called before is described first
            os._exit(7)
        release.set()
        thread.join()
        try:
            _, status = os.waitpid(child, 0)
        except BaseException:  # the time limit
            os.kill(child, signal.SIGKILL)
            raise
    assert os.waitstatus_to_exitcode(status) == 7


def test_it_is_busy_while_any_thread_writes():
    held, release = threading.Event(), threading.Event()

    def holds():
        with recorder._observer.lock:
            held.set()
            release.wait()

    recorder = recorder_here()
    assert not recorder.is_busy
    with recorder._observer.lock:  # as a signal handler finds it, that comes in the middle
        assert recorder.is_busy
    assert not recorder.is_busy
    thread = threading.Thread(target=holds)
    thread.start()
    held.wait()
    assert recorder.is_busy
    release.set()
    thread.join()


def test_a_step_that_raised_and_is_freed_in_another_thread_changes_nothing_there():
    depths, held = [], []
    with recorder_here() as recorder:
        w = torch.ones(2, requires_grad=True)
        w.grad = torch.ones(2)
        optimizer = torch.optim.SGD([w], lr=0.1)
        optimizer.param_groups[0]["lr"] = "no number"
        try:
            optimizer.step()
        except Exception as error:
            held.append(error)  # and with its traceback the frames of the step

        def frees():
            depths.append(torch._C._len_torch_function_stack())
            held.clear()
            gc.collect()
            depths.append(torch._C._len_torch_function_stack())

        in_thread(frees)
    assert depths == [0, 0] or depths == [1, 1]
    assert torch._C._len_torch_function_stack() == 0
    assert_no_faults(recorder.recording)


def test_a_thread_that_comes_to_run_when_the_recording_is_over_does_not_enter_it(monkeypatch):
    starting, is_over, depths = threading.Event(), threading.Event(), []

    def outer():
        in_thread(lambda: depths.append(torch._C._len_torch_function_stack()))

    with recorder_here() as recorder:
        ours = threading.Thread._bootstrap_inner

        def waiting(thread):
            if thread is not parent:
                starting.set()
                is_over.wait()
            ours(thread)

        monkeypatch.setattr(threading.Thread, "_bootstrap_inner", waiting)
        parent = threading.Thread(target=outer)
        parent.start()
        starting.wait()
    is_over.set()
    parent.join()
    assert depths == [0]
    assert len(recorder.recording.threads) == 2


@pytest.mark.parametrize("taken", [0, 1])
def test_of_two_threads_nodes_with_one_number_the_one_that_leads_to_the_same_is_meant(taken):
    """What a call that is not seen was given is known by what its node leads to."""
    weights = [torch.ones(3, requires_grad=True) for _ in range(2)]
    recorder = recorder_here()
    with recorder:
        results = []
        for weight in weights:
            in_thread(lambda weight=weight: results.append(torch.tanh(weight) * 2))
        loss = Square.apply(results[taken]).sum()
        loss.backward()
    recording = recorder.recording
    assert_no_faults(recording)
    following: dict[int, list[int]] = {}
    for edge in recording.edges:
        following.setdefault(edge.node, []).append(edge.next)
    todo, reached = [recording.backwards[0].node], set()
    while todo:
        node = todo.pop()
        if node != NONE and node not in reached:
            reached.add(node)
            todo += following.get(node, ())
    leaves = [recording.nodes[node].variable for node in reached if recording.nodes[node].variable != NONE]
    received = [row.tensor for row in recording.gradients if row.tensor in leaves]
    assert [node_name(recording, node) for node in sorted(reached)].count("MulBackward0") == 1
    assert leaves == [recorder.row_of(weights[taken])] == received


STARTED = """
import threading
from concurrent.futures import ThreadPoolExecutor
import torch
w = torch.ones(3, requires_grad=True)
loss, other, last = w.sum(), w.exp().sum(), w.tanh().sum()
thread = threading.Thread(target=loss.backward)
thread.start()
thread.join()
with ThreadPoolExecutor(1) as pool:
    pool.submit(other.backward).result()
    pool.submit(last.backward).result()
"""


def test_what_runs_no_code_of_the_users_in_a_thread_is_of_the_line_that_started_it():
    """Of a pool's thread it is not: the line that made it start one gave it one job of several."""
    recording = recorded(STARTED)
    ops = [op for op in recording.ops if recording.text(op.func) == "Tensor.backward"]
    lines = [recording.spans[op.span].line if op.span >= 0 else NONE for op in ops]
    assert lines == [7, NONE, NONE]

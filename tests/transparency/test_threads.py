"""Threads under a recorder: backward in several, replicas in several, and threads that outlive the recorder."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from gradscope.recording import NONE

from .sameness import assert_unnoticed, recorder_for_tests


def backward_in_threads():
    weight = torch.ones(3, requires_grad=True)
    losses = [(weight * factor).sum() for factor in range(1, 5)]
    threads = [threading.Thread(target=loss.backward) for loss in losses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return weight


def replicas():
    """What DataParallel does: a copy of the module in each thread, gradients summed into the original."""
    model = nn.Linear(4, 2)
    batch = torch.randint(9, (8, 4)).float()  # whole numbers: their sum is the same in any order of the threads
    results: dict[int, torch.Tensor] = {}

    def forward(number, part):
        with torch.set_grad_enabled(True):
            results[number] = nn.functional.linear(part, model.weight * 1, model.bias * 1)

    threads = [threading.Thread(target=forward, args=(number, part)) for number, part in enumerate(batch.chunk(4))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.cat([results[number] for number in range(4)]).sum().backward()
    return model, [results[number] for number in range(4)]


def pool():
    with ThreadPoolExecutor(3) as executor:
        return list(executor.map(lambda factor: torch.ones(2) * factor, range(8)))


def grad_mode_belongs_to_the_thread():
    seen = []

    def look():
        seen.append((torch.is_grad_enabled(), torch.ones(1, requires_grad=True).exp().requires_grad))

    with torch.no_grad():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        look()
    return seen


class OwnThread(threading.Thread):
    """A thread with a run method of its own, which raises."""

    def run(self):
        self.made = torch.ones(3) + 1
        raise ValueError("in a thread")


def thread_that_raises():
    caught = []
    before, threading.excepthook = threading.excepthook, lambda args: caught.append(str(args.exc_value))
    try:
        thread = OwnThread()
        thread.start()
        thread.join()
    finally:
        threading.excepthook = before
    return caught, thread.made


def aliases_while_another_thread_runs_backward():
    """A version counter that is set for a moment makes the other thread's backward pass fail."""
    weight = torch.randn(1 << 14, requires_grad=True)
    is_over = threading.Event()

    def make_aliases():
        while not is_over.is_set():
            weight.detach()
            weight.view(-1)

    thread = threading.Thread(target=make_aliases)
    thread.start()
    for _ in range(300):
        (weight * weight).exp().sum().backward()
    is_over.set()
    thread.join()
    return weight._version


def graph_freed_in_a_thread():
    def work():
        y = torch.ones(1, requires_grad=True)
        for _ in range(60_000):
            y = y + 1

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return torch.ones(1) * 2


PROGRAMS = [
    aliases_while_another_thread_runs_backward,
    graph_freed_in_a_thread,
    backward_in_threads,
    replicas,
    pool,
    grad_mode_belongs_to_the_thread,
    thread_that_raises,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_program_runs_the_same(program):
    recording = assert_unnoticed(program)
    assert len(recording.ops) > 0


def sharing_beside(busy, code):
    """What is recorded of two aliases while another thread does something, in some code."""
    is_over = threading.Event()

    def work():
        busy(is_over)

    thread = threading.Thread(target=work)
    with recorder_for_tests() as recorder:
        thread.start()
        while sys._current_frames()[thread.ident].f_code is not code:
            time.sleep(0.001)
        x = torch.ones(4)
        aliases = x.view(2, 2), x.detach(), x.data
        is_over.set()
        thread.join()
    del aliases
    return [alias.shares_version for alias in recorder.recording.aliases]


def test_whether_a_counter_is_shared_is_measured_where_no_thread_could_notice():
    def works(is_over):
        while not is_over.is_set():
            time.sleep(0.2)  # in code of the program's, which may call torch at any moment

    assert sharing_beside(threading.Event.wait, threading.Condition.wait.__code__) == [1, 1, 0]
    assert sharing_beside(works, works.__code__) == [1, NONE, NONE]  # (of a view it is known)


def test_threads_are_told_apart():
    recording = assert_unnoticed(pool)
    assert len(recording.threads) > 1
    assert {op.thread for op in recording.ops} - {0}


def test_thread_that_outlives_the_recorder_is_left_alone():
    go, done = threading.Event(), threading.Event()
    depths = []

    def work():
        torch.ones(1)
        done.set()
        go.wait()
        (torch.ones(1, requires_grad=True) * 2).backward()
        depths.append(len(recorder.recording.ops))

    recorder = recorder_for_tests()
    with recorder:
        thread = threading.Thread(target=work)
        thread.start()
        done.wait()
    count = len(recorder.recording.ops)
    go.set()
    thread.join()
    assert depths == [count]
    assert [fault.traceback for fault in recorder.recording.faults] == []


def test_many_threads_write_one_recording():
    recorder = recorder_for_tests()

    def work(number):
        x = torch.ones(2, requires_grad=True)
        for _ in range(50):
            x = x * 1.01
        x.sum().backward()

    with recorder:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    recording = recorder.recording
    assert [fault.traceback for fault in recording.faults] == []
    names = [recording.text(op.func) for op in recording.ops]
    assert names.count("Tensor.mul") == 8 * 50
    assert len(recording.backwards) == 8
    # Nodes are numbered from the same number in each thread: they must be told apart all the same.
    assert len(recording.nodes) == 8 * (50 + 2)
    assert sorted(Counter(recording.nodes.column("variable")).values()) == [1] * 8 + [8 * 51]

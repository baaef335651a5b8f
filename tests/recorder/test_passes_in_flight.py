"""Backward passes of several threads at a time: none looks at a gradient that another may be writing."""

import threading
from collections import Counter

import torch
from torch.utils.checkpoint import checkpoint

import gradscope
from gradscope.recording import Recording
from gradscope.recording.rows import GradOutcome


def outcomes(recording: Recording) -> dict[int, list[int]]:
    """The leaves of which each pass has an outcome."""
    found: dict[int, list[int]] = {}
    for row in recording.gradients:
        found.setdefault(row.op, []).append(row.tensor)
    return found


def test_a_pass_has_outcomes_of_its_own_leaves_alone_while_another_thread_s_runs() -> None:
    first_runs, second_is_over = threading.Event(), threading.Event()

    def hold(gradient: torch.Tensor) -> None:
        first_runs.set()
        assert second_is_over.wait(60)

    def first() -> None:
        weight = torch.ones(2, requires_grad=True)
        middle = weight * 2
        middle.register_hook(hold)
        middle.sum().backward()

    def second() -> None:
        weight = torch.ones(3, requires_grad=True)
        loss = (weight * 3).sum()
        assert first_runs.wait(60)
        loss.backward()
        second_is_over.set()

    with gradscope.record() as recording:
        threads = [threading.Thread(target=target) for target in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(map(len, outcomes(recording).values())) == [1, 1]


def test_a_pass_that_runs_alone_has_an_outcome_of_every_leaf_though_other_threads_made_nodes() -> None:
    with gradscope.record() as recording:
        used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        thread = threading.Thread(target=lambda: (unused * 2).sum().backward())
        thread.start()
        thread.join()
        (used * 2).sum().backward()
        unused.detach()
    last = max(row.op for row in recording.gradients)
    outcomes_of_last = [row.outcome for row in recording.gradients if row.op == last]
    assert outcomes_of_last == [GradOutcome.CREATED, GradOutcome.UNTOUCHED]


def test_leaves_of_a_thread_that_is_at_work_are_not_looked_at_by_another_s_pass() -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def at_work() -> None:
        (theirs * 2).sum().backward()
        begun.set()
        assert goes_on.wait(60)

    with gradscope.record() as recording:
        mine, theirs = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        thread = threading.Thread(target=at_work)
        thread.start()
        assert begun.wait(60)
        (mine * 3).sum().backward()
        goes_on.set()
        thread.join()
    assert sorted(Counter(row.op for row in recording.gradients).values())[-1] == 1


def test_what_another_thread_s_pass_gave_meanwhile_is_not_put_down_to_a_pass() -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def hold(gradient: torch.Tensor) -> None:
        begun.set()
        assert goes_on.wait(60)

    def first() -> None:
        middle = mine * 2
        middle.register_hook(hold)
        middle.sum().backward()

    with gradscope.record() as recording:
        mine, other = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        loss = (other * 3).sum()
        thread = threading.Thread(target=first)
        thread.start()
        assert begun.wait(60)
        loss.backward()
        goes_on.set()
        thread.join()
    rows_by_leaf = Counter(row.tensor for row in recording.gradients)
    assert sorted(rows_by_leaf.values()) == [1, 1]


def test_a_single_thread_s_pass_has_an_outcome_of_every_leaf() -> None:
    with gradscope.record() as recording:
        used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        unused.detach()
        (used * 2).sum().backward()
    assert list(map(len, outcomes(recording).values())) == [2]


def test_a_pass_in_a_thread_gives_what_the_pass_inside_it_gives() -> None:
    """The layer of a reentrant checkpoint is in the graph of neither: its backward makes one, and a pass of its own."""
    layer, scale = torch.nn.Linear(3, 3), torch.ones(3, requires_grad=True)
    with gradscope.record() as recording:
        out = checkpoint(layer, torch.ones(2, 3) * scale, use_reentrant=True)
        thread = threading.Thread(target=out.sum().backward)
        thread.start()
        thread.join()
    assert [row.outcome for row in recording.gradients] == [GradOutcome.CREATED] * 3
    assert not recording.faults

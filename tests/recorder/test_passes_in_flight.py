"""Backward passes of several threads at a time: none looks at a gradient that another may be writing."""

import threading

import torch

import gradscope
from gradscope.recording import Recording


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


def test_a_single_thread_s_pass_has_an_outcome_of_every_leaf() -> None:
    with gradscope.record() as recording:
        used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        unused.detach()
        (used * 2).sum().backward()
    assert list(map(len, outcomes(recording).values())) == [2]

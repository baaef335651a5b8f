"""Processes under a recorder: workers by fork and spawn, and forked children, which record nothing and end well."""

from __future__ import annotations

import os
import pickle
import sys

import pytest
import torch
import torch.multiprocessing
from torch.utils.data import DataLoader, Dataset, TensorDataset

from gradscope.recorder.session import Recorder

from .sameness import assert_unnoticed, recorder_for_tests

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


class Squares(Dataset):
    """Says of each item whether a function mode was there when it was made."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.full((2,), float(index)) ** 2, torch._C._len_torch_function_stack()


def load(method):
    loader = DataLoader(Squares(), batch_size=2, num_workers=1, multiprocessing_context=method)
    weight = torch.ones(2, requires_grad=True)
    for batch, _ in loader:
        (batch * weight).sum().backward()
    return weight


def by_fork():
    return load("fork")


def by_spawn():
    return load("spawn")


def in_the_same_process():
    loader = DataLoader(TensorDataset(torch.randn(6, 2)), batch_size=2, shuffle=True)
    return [batch for (batch,) in loader]


def forked_child():
    """A child that computes, and sends a gradient back through a pipe."""
    weight = torch.ones(3, requires_grad=True)
    loss = (weight * 2).sum()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        loss.backward()
        os.write(writing, pickle.dumps(weight.grad.tolist()))
        os._exit(3)
    _, status = os.waitpid(child, 0)
    return pickle.loads(os.read(reading, 4096)), os.waitstatus_to_exitcode(status), weight


def shared_memory():
    shared = torch.zeros(3).share_memory_()
    process = torch.multiprocessing.get_context("fork").Process(target=shared.fill_, args=(5,))
    process.start()
    process.join()
    return shared.clone(), process.exitcode, shared.is_shared()


@pytest.mark.parametrize("program", [by_fork, by_spawn, in_the_same_process, forked_child, shared_memory])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_program_runs_the_same(program):
    recording = assert_unnoticed(program)
    assert len(recording.ops) > 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_adds_nothing_to_the_recording():
    recorder = recorder_for_tests()
    reading, writing = os.pipe()
    with recorder:
        torch.ones(1)
        child = os.fork()
        if child == 0:
            before = recorder.op_count
            torch.ones(1) + 1
            os.write(writing, str(recorder.op_count - before).encode())
            os._exit(0)
        os.waitpid(child, 0)
    assert os.read(reading, 16) == b"0"
    assert recorder.op_count >= 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_that_stops_the_recorder_hands_on_nothing():
    handed_on = []
    recorder = Recorder(is_user=lambda name: name == __file__, on_flush=handed_on.append)
    reading, writing = os.pipe()
    with recorder:
        torch.ones(1)
        before = len(handed_on)
        child = os.fork()
        if child == 0:
            recorder.stop()
            os.write(writing, str(len(handed_on) - before).encode())
            os._exit(0)
        os.waitpid(child, 0)
    assert os.read(reading, 16) == b"0"
    assert len(handed_on) > before


def test_child_that_ends_by_exit_leaves_the_parents_recording_alone():
    recorder = recorder_for_tests()
    with recorder:
        child = os.fork()
        if child == 0:
            try:
                sys.exit(4)
            except SystemExit as end:
                recorder.stop()
                os._exit(int(end.code))
        _, status = os.waitpid(child, 0)
        torch.ones(2)
    assert os.waitstatus_to_exitcode(status) == 4
    assert recorder.op_count >= 1

"""Every operator and module of torch gives the same, to the last bit, recorded and bare."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from .operators import MODULES, OPERATORS, SAMPLES_OF_SPREAD, WHOLE_SWEEP, Trial, recorded, run_module, run_operator
from .sameness import describe

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's samples use what is deprecated or experimental

BARE_REPEATS = 20
"""Enough to tell an operator whose last bits hang on where its memory lies from one that the recorder changes."""

EVERY = 12
"""One operator in so many is tried in the normal run."""


def what_is_left(trial: Trial) -> list[Any]:
    """All that a call left: outputs, inputs with versions and gradients, errors."""
    return [trial.name, describe(trial.outputs), describe(trial.inputs), trial.errors]


def left_bare(run: Any, subject: Any, count: int) -> list[list[Any]]:
    return [what_is_left(trial) for trial in run(subject, count, nullcontext)]


def assert_same(run: Any, subject: Any, count: int) -> None:
    """Assert that calls leave the same recorded and bare, where they always leave the same bare."""
    bare = left_bare(run, subject, count)
    left = []
    for trial, recorder in recorded(run, subject, count):
        left.append(what_is_left(trial))
        assert [fault.traceback for fault in recorder.recording.faults] == [], trial.name
        assert recorder.op_count or trial.errors or not trial.outputs, trial.name
    if left != bare and "empty" not in getattr(subject, "name", ""):  # those give what was in the memory before
        again, kept = [], []
        for number in range(BARE_REPEATS):
            kept += [torch.empty(17 * number + part) for part in range(64)]  # so that memory is laid out in another way
            again.append(left_bare(run, subject, count))
        for one, other, *repeats in zip(bare, left, *again, strict=True):
            if all(repeat == one for repeat in repeats):  # else the operator gives no fixed result
                assert other == one


@pytest.mark.parametrize("operator", OPERATORS[::EVERY], ids=lambda operator: operator.formatted_name)
def test_operator_is_the_same_recorded(operator):
    assert_same(run_operator, operator, SAMPLES_OF_SPREAD)


@pytest.mark.sweep
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.formatted_name)
def test_every_operator_is_the_same_recorded(operator):
    assert_same(run_operator, operator, WHOLE_SWEEP)


@pytest.mark.parametrize("module", MODULES[:: EVERY // 2], ids=lambda module: module.formatted_name)
def test_module_is_the_same_recorded(module):
    assert_same(run_module, module, 1)


@pytest.mark.sweep
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.formatted_name)
def test_every_module_is_the_same_recorded(module):
    assert_same(run_module, module, WHOLE_SWEEP)

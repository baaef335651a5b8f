"""No test depends on the machine's speed: hypothesis sets no deadline, and pytest's own limit is a backstop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _a_fault_of_a_diagnosis_fails_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report survives it; a test that looks for silence would take it for silence."""

    def fail(code: str) -> str:
        raise

    monkeypatch.setattr("gradscope.analysis.diagnoses.answers.fault_of", fail)


@pytest.fixture(autouse=True)
def _what_a_test_leaves_on_the_stack_of_modes_fails_it() -> Iterator[None]:
    """A recorder's mode that stays there would record what the tests after it do."""
    yield
    left = [torch._C._pop_torch_function_stack() for _ in range(torch._C._len_torch_function_stack())]
    assert left == []

"""No test depends on the machine's speed: hypothesis sets no deadline, and pytest's own limit is a backstop."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _a_fault_of_a_diagnosis_fails_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report survives it; a test that looks for silence would take it for silence."""

    def fail(code: str) -> str:
        raise

    monkeypatch.setattr("gradscope.analysis.diagnoses.answers.fault_of", fail)

"""No test depends on the machine's speed: hypothesis sets no deadline, and pytest's own limit is a backstop."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

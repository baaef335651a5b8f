#!/usr/bin/env bash
# hypothesis 6.170.17, Python 3.11: the first test with @given leaves a Python function in gc.callbacks for the rest of the
# process, to time collections. Python drops what is raised in such a callback ("Exception ignored in"), and a signal handler
# may run in it: so a timeout that a handler raises, anywhere in the program, is lost where it comes during a collection, also
# in code that has nothing to do with hypothesis. A good guess would have been that a test leaves nothing behind that code run
# after it can feel, and that an exception raised by a signal handler arrives.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet hypothesis==6.170.17
"$work/venv/bin/python" - <<'P'
import gc
import signal
import sys
import time

from hypothesis import given, settings
from hypothesis import strategies as st

TIMES = 300


class TimeIsUp(Exception):
    pass


def handle(*_):
    raise TimeIsUp


def arrived():
    """How many of the timeouts end a loop that makes the collector work."""
    count = 0
    for number in range(TIMES):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0005 + number % 97 * 1e-6)
            end = time.monotonic() + 0.05
            while time.monotonic() < end:
                gc.collect(0)
        except TimeIsUp:
            count += 1
    return count


signal.signal(signal.SIGALRM, handle)
sys.unraisablehook = lambda _: None  # it would print each that is lost
callbacks, before = len(gc.callbacks), arrived()


@settings(max_examples=1, database=None)
@given(st.integers())
def test(_):
    pass


test()
after = arrived()
print(f"before a test: {callbacks} callbacks, {before} of {TIMES} timeouts arrived")
print(f"after it: {[one.__qualname__ for one in gc.callbacks]}, {after} of {TIMES} arrived")
assert callbacks == 0 and before == TIMES, (callbacks, before)
assert len(gc.callbacks) == 1 and after < TIMES, (gc.callbacks, after)
P

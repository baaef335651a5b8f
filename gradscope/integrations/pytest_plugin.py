"""The pytest plug-in: ``--gradscope``, the fixture ``gradscope_recording``, and ``@pytest.mark.gradscope``.

The option prints the answers of failing tests, the fixture is a test's recording, and a test that is marked
``@pytest.mark.gradscope(no=["leaf-unreached"], max_saved="10 MB")`` fails where that does not hold. Until one of these
is used nothing of gradscope's is imported but this file, and no test is recorded.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gradscope.integrations.marked_tests import Expected
    from gradscope.recording import Recording

_FOUND = pytest.StashKey[Any]()
_MARKER = "gradscope"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--gradscope``."""
    group = parser.getgroup("gradscope", "what autograd did in tests")
    group.addoption("--gradscope", action="store_true", help="Record each test; print the answers of failing ones.")


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marker is."""
    config.addinivalue_line(
        "markers",
        'gradscope(no=["code", "problem"], max_saved="10 MB", max_peak="1 GiB"): record the test; it fails where '
        "gradscope has such an answer or it needs more; without arguments, where there is a problem.",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Record a test, if that was asked for, and see whether what its markers say holds."""
    markers = [(marker.args, marker.kwargs) for marker in item.iter_markers(_MARKER)]
    if not (markers or item.config.getoption("gradscope")):
        return (yield)
    wanted = _expected(markers)
    with _recorded(item) as recording:
        item.stash[_FOUND] = recording
        result = yield
    broken = wanted.broken(recording) if wanted is not None else ""
    if broken:
        del item.stash[_FOUND]  # what it says is said already
        pytest.fail(f"{_MARKER}: {broken}", pytrace=False)
    return result


def _expected(markers: list[Any]) -> Expected | None:
    if not markers:
        return None
    from gradscope.errors import UsageError
    from gradscope.integrations.marked_tests import expected

    try:
        return expected(markers)
    except UsageError as error:
        pytest.fail(f"{error.message}; {error.hint}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Put the answers of a failing test into its report; a worker of xdist sends that to where it is shown."""
    report = yield
    recording = item.stash.get(_FOUND, None)
    if recording is not None and call.when == "call":
        del item.stash[_FOUND]
        if report.failed:
            report.sections.append(("gradscope", _said(recording)))
    return report


@pytest.fixture
def gradscope_recording(request: pytest.FixtureRequest) -> Iterator[Recording]:
    """The recording of the test that asks for it; complete once the test is over."""
    with _recorded(request.node) as recording:
        yield recording


@contextmanager
def _recorded(item: pytest.Item) -> Iterator[Recording]:
    from gradscope.frames.own_packages import NO_PACKAGES, is_own
    from gradscope.recorder.session import Recorder

    folders = {str(item.path.parent), str(item.config.rootpath)}
    recorder = Recorder(is_user=lambda name: any(is_own(name, folder, NO_PACKAGES) for folder in folders))
    info = recorder.recording.info
    info.kind, info.target = "api", item.nodeid
    outcome = info.outcome
    try:
        with recorder:
            yield recorder.recording
        outcome.kind = "ok"
    except BaseException as error:
        outcome.kind, outcome.error_type, outcome.message = "exception", type(error).__qualname__, str(error)
        raise


def _said(recording: Recording) -> str:
    answers = recording.answers
    if not answers:
        return f"no answers: {recording!r}"
    return "\n".join(f"{one.severity}: {one.text} [{one.code}]" for one in answers)

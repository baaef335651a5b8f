"""The pytest plug-in: ``--gradscope`` prints answers of failing tests, ``gradscope_recording`` is a test's recording.

Until one of both is used nothing of gradscope's is imported but this file, and no test is recorded.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gradscope.recording import Recording

_FOUND = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--gradscope``."""
    group = parser.getgroup("gradscope", "what autograd did in tests")
    group.addoption("--gradscope", action="store_true", help="Record each test; print the answers of failing ones.")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Record a test, if that was asked for."""
    if not item.config.getoption("gradscope"):
        return (yield)
    with _recorded(item) as recording:
        item.stash[_FOUND] = recording
        return (yield)


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
    from gradscope.frames.whose_file import is_beside
    from gradscope.recorder.session import Recorder

    folders = {str(item.path.parent), str(item.config.rootpath)}
    recorder = Recorder(is_user=lambda name: any(is_beside(name, folder) for folder in folders))
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

"""A call of a function is told from the next one, whose frame may have the same address."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from gradscope.recorder.naming.last_statements import Call, LastStatements, calls_to

SITE: Any = object()


def known_here(last: LastStatements) -> bool:
    """Whether anything is known of the calling frame's call; it is at a site from now on."""
    call = call_of(sys._getframe(1))
    known = last.of(call) is not None
    last.note(call, SITE, 0)
    return known


def call_of(frame: FrameType) -> Call:
    return calls_to(frame)[id(frame)]


def called(last: LastStatements) -> list[bool]:
    return [known_here(last), known_here(last)]


def test_a_call_is_known_while_it_lasts():
    assert called(LastStatements()) == [False, True]


def test_a_call_from_elsewhere_is_another():
    last = LastStatements()
    called(last)
    assert called(last) == [False, True]


def test_a_call_is_over_once_its_caller_goes_on():
    last = LastStatements()
    known = []
    for _ in range(2):
        known.append(called(last))
        last.forget_ended(call_of(sys._getframe()))
    assert known == [[False, True], [False, True]]
    assert not list(last)


def test_what_called_is_not_over_when_what_it_called_goes_on():
    last = LastStatements()

    def inner():
        last.forget_ended(call_of(sys._getframe()))

    known_here(last)
    inner()
    assert known_here(last)


def test_a_generator_that_paused_is_known_when_its_caller_went_on():
    last = LastStatements()

    def steps() -> Iterator[bool]:
        while True:
            yield known_here(last)

    generator = steps()
    first = next(generator)
    last.forget_ended(call_of(sys._getframe()))
    assert (first, next(generator)) == (False, True)


def test_a_thread_knows_nothing_of_one_that_had_its_number(monkeypatch):
    last = LastStatements()
    known = []
    for _ in range(2):
        last.begin_thread()
        known += called(last)
    assert known == [False, True] * 2
    monkeypatch.setattr(threading, "get_ident", lambda: -1)
    assert not last.of(call_of(sys._getframe()))

"""Results that log records keep, and the frames of generators that are not run to their end."""

from __future__ import annotations

import logging
import logging.handlers

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

LOGGED = """\
import logging
import logging.handlers
import torch

class Keeping(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append({kept})

log = logging.getLogger("gradscope-test-of-logs")
log.setLevel(logging.INFO)
log.propagate = False
log.handlers[:] = [{handler}]  # (pytest adds one of its own to loggers that it finds)
net = torch.nn.Linear(3, 1)
total = 0.0
for step in range(12):
    loss = net(torch.randn(8, 3)).pow(2).mean()
    loss.backward()
    {call}
    total += loss.item()
"""


@pytest.fixture(autouse=True)
def _no_handlers_stay():
    yield
    logging.getLogger("gradscope-test-of-logs").handlers.clear()


def logged(call: str, handler: str = "Keeping()", kept: str = "record") -> tuple[list[int], int]:
    source = LOGGED.format(call=call, handler=handler, kept=kept)
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "graph-kept-after-pass"], line_of(source, call)


@pytest.mark.parametrize(
    ("call", "handler"),
    [
        ('log.info("step %d: %s", step, loss)', "logging.handlers.MemoryHandler(1000)"),
        ('log.warning("%(loss)s", {"loss": loss})', "Keeping()"),
        ("log.info(loss)", "Keeping()"),
    ],
)
def test_a_call_whose_record_keeps_the_loss_is_named(call: str, handler: str):
    lines, expected = logged(call, handler)
    assert lines == [expected]


@pytest.mark.parametrize(
    ("call", "handler", "kept"),
    [
        ('log.info("%s", loss.item())', "Keeping()", "record"),
        ('log.info(f"{loss}")', "Keeping()", "record"),
        ('log.info("%s", loss)', "Keeping()", "record.getMessage()"),
        ('log.info("%s", loss)', "logging.NullHandler()", "record"),
    ],
)
def test_records_that_are_formatted_or_go_away_keep_nothing(call: str, handler: str, kept: str):
    assert logged(call, handler, kept)[0] == []


GENERATORS = """\
import torch

net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4))

def rollout(state):
    total = 0.0
    while True:
        state = net(state)
        total = total + state.pow(2).mean()
        yield total

episodes = {empty}
for it in range(12):
    episode = rollout(torch.randn(8, 4))
    for _ in range(3):
        loss = next(episode)
    loss.backward()
    {statement}
"""


def suspended(statement: str, empty: str = "[]") -> tuple[list[str], list[int], int]:
    source = GENERATORS.format(statement=statement, empty=empty)
    found = [one for one in build(recorded(source)).answers if one.code == "graph-kept-after-pass"]
    return [one.text for one in found], [one.causes[0].line for one in found], line_of(source, statement)


@pytest.mark.parametrize(
    ("statement", "empty"), [("episodes.append(episode)", "[]"), ("episodes[it] = episode, it", "{}")]
)
def test_generators_that_are_kept_are_named_by_what_keeps_them(statement: str, empty: str):
    (text,), lines, expected = suspended(statement, empty)
    assert lines == [expected]
    assert "generators that are not run to their end" in text and "close()" in text


@pytest.mark.parametrize(
    "statement", ["episodes.append(episode); episode.close()", "episodes = [episode]", "episodes.append(it)"]
)
def test_generators_that_are_closed_or_go_away_keep_nothing(statement: str):
    assert suspended(statement)[1] == []


def test_reading_the_frame_of_a_generator_leaves_nothing_in_it():
    recorded(GENERATORS.format(statement="episodes.append(episode)", empty="[]") + "ep = next(episodes[0])\n")

"""The recorder's weak references bring no collection of garbage nearer, and still tell of each death."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
import torch

from gradscope.recorder.calls import core
from gradscope.recorder.session import Recorder
from gradscope.recorder.state.identity import Seen
from gradscope.recording import NONE

pytestmark = [
    pytest.mark.skipif(core.choice().core is None, reason=core.choice().why),
    pytest.mark.skipif(sys.version_info >= (3, 14), reason="where the collector's lists are not known"),
]


class Counted(weakref.ref[torch.Tensor]):
    """As the references would be without the core."""


class Circle:
    """Holds itself and a tensor: garbage that only the collector finds."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.circle = self
        self.tensor = tensor


def _counted_by(kind: type[weakref.ref[torch.Tensor]]) -> int:
    tensors = [torch.ones(1) for _ in range(100)]
    references: list[object] = [None] * 100
    gc.collect()
    gc.disable()
    try:
        before = gc.get_count()[0]
        for place, tensor in enumerate(tensors):
            references[place] = kind(tensor, print)
        return gc.get_count()[0] - before
    finally:
        gc.enable()


def test_are_not_counted() -> None:
    """A hundred that are made do not bring the next collection nearer; a hundred others do."""
    assert _counted_by(Counted) >= 100
    assert _counted_by(Seen) < 10


def test_tell_of_tensors_that_the_collector_finds() -> None:
    """One on garbage is called, whether it lives on or is garbage as well."""
    dead: list[object] = []
    living = []
    for _ in range(200):
        circle = Circle(torch.ones(1))
        living.append(Seen(circle.tensor, dead.append))
        inside = Circle(torch.ones(1))
        vars(inside)["own"] = Seen(inside.tensor, dead.append)
    del circle, inside
    gc.collect()
    assert set(map(id, living)) <= set(map(id, dead))
    assert all(reference() is None for reference in living)
    dead.clear()
    living.clear()
    gc.collect()  # (those that were called are in its lists now, and go as others do)


def test_deaths_in_a_recording() -> None:
    """What the collector finds while a program is recorded has died at the op before which it was found."""
    with Recorder(is_user=lambda file: file == __file__) as recorder:
        for _ in range(5):
            circle = Circle(torch.ones(2) * 2)
        first = circle.tensor
        del circle
        gc.collect()
        after = torch.zeros(1) + first.sum()
    died = [tensor.died for tensor in recorder.recording.tensors]
    assert len([one for one in died if one != NONE]) >= 4
    assert after.item() == 4


def test_are_freed() -> None:
    """Objects do not add up."""
    tensor = torch.ones(1)

    def make(times: int) -> int:
        for _ in range(times):
            Seen(tensor, print)
        return sys.getallocatedblocks()

    before = make(1000)
    assert make(20_000) - before < 100

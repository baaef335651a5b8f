"""Arrays that numpy() gave are noted with their lifetimes, and kept alive by nothing of ours."""

from __future__ import annotations

import json

from gradscope.recording.rows import EventKind
from tests.analysis.building import recorded


def test_each_array_is_noted_with_its_call_and_its_end() -> None:
    recording = recorded(
        """
        import torch, weakref
        w, kept = torch.ones(3), []
        for step in range(4):
            array = w.numpy()
            if step < 2:
                kept.append(array[1:])
        last = weakref.ref(array)
        del array
        print(w + 1 if last() is None else 1 / 0)
        """
    )
    assert recording.info.outcome.kind == "ok"
    (event,) = [row for row in recording.events if row.kind == EventKind.ARRAYS]
    arrays = json.loads(recording.text(event.detail))["arrays"]
    calls = [op for op, row in enumerate(recording.ops) if recording.text(row.func) == "Tensor.numpy"]
    assert [op for op, _ in arrays] == calls
    assert [died for _, died in arrays] == [-1, -1, calls[3] + 1, calls[3] + 1]
    tensors = [row.tensor for row in recording.event_tensors]
    assert len(set(tensors)) == 1
    assert len(tensors) == 4


def test_a_place_that_gives_one_array_says_nothing() -> None:
    recording = recorded("import torch\narray = torch.ones(3).numpy()\n")
    assert EventKind.ARRAYS not in recording.events.column("kind")

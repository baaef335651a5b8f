"""Hooks that a program registers: noted, and as they would be without a recorder."""

from __future__ import annotations

import copy
import io
import json
from collections import OrderedDict

import pytest
import torch
from torch import nn

import gradscope
from gradscope.recording.rows import EventKind
from tests.analysis.building import recorded


def details(source: str, kind: EventKind) -> list[dict[str, object]]:
    recording = recorded(source)
    return [json.loads(recording.text(event.detail)) for event in recording.events if event.kind == kind]


def halve(grad):
    return grad * 0.5


def look(module, args, output):
    module.seen = output.shape


def gradients() -> list[object]:
    """What a program can see of its hooks."""
    w, seen = torch.ones(3, requires_grad=True), []
    w.register_hook(halve)
    handle = w.register_hook(seen.append)
    w.register_post_accumulate_grad_hook(lambda leaf: seen.append(leaf.grad.clone()))
    (w * 2).sum().backward()
    handle.remove()
    (w * 2).sum().backward()
    layer = nn.Linear(3, 1)
    layer.register_forward_hook(look)
    other = copy.deepcopy(layer)
    other(torch.ones(1, 3))
    pickled = io.BytesIO()
    torch.save(layer, pickled)
    y = w * 2
    taken_out = y.register_hook(halve)
    found = [key for key, hook in y._backward_hooks.items() if hook is halve]
    for key in found:
        del y._backward_hooks[key]
    y.sum().backward()
    table, names = w._backward_hooks, [hook.__name__ for hook in w._backward_hooks.values()]
    looks = [table[next(iter(table))] is halve, halve in table.values(), repr(table) == repr(dict(table.items()))]
    looks += [found == [taken_out.id], isinstance(table, OrderedDict), copy.copy(table) == table, str(type(table))]
    return [w.grad.tolist(), [one.tolist() for one in seen], other.seen, hasattr(layer, "seen"), names, looks]


def test_a_program_sees_of_its_hooks_what_it_would_without_a_recorder() -> None:
    before = gradients()
    with gradscope.record():
        during = gradients()
    assert during == before == gradients()


def test_a_hook_goes_on_when_the_recorder_is_gone() -> None:
    w = torch.ones(3, requires_grad=True)
    with gradscope.record():
        w.register_hook(halve)
    w.sum().backward()
    assert w.grad.tolist() == [0.5] * 3


def test_an_error_is_the_hook_s_own() -> None:
    w = torch.ones(3, requires_grad=True)
    with gradscope.record(), pytest.raises(ZeroDivisionError):
        w.register_hook(lambda grad: 1 // 0)
        w.sum().backward()


RUNS = """
import torch
w = torch.ones(3, requires_grad=True)
first = w.register_hook(lambda grad: grad * 0)
w.register_hook(lambda grad: grad.mul_(2) and None if False else None)
w.exp().sum().backward()
first.remove()
w.exp().sum().backward()
"""


def test_what_hooks_did_is_counted() -> None:
    first, second = details(RUNS, EventKind.HOOK_RUNS)
    assert (first["runs"], first["returned"], first["removed"], first["looked"], first["zeroed"]) == (1, 1, 1, 1, 1)
    assert (second["runs"], second["returned"], second["removed"], second["in_place"]) == (2, 0, 0, 0)


def test_how_many_are_there_already_is_noted() -> None:
    noted = details(
        """
import torch
layer, w = torch.nn.Linear(3, 1), torch.ones(3, requires_grad=True)
def hook(*_):
    pass
for step in range(3):
    layer.register_full_backward_hook(hook)
    w.register_hook(hook).remove()
""",
        EventKind.HOOK,
    )
    assert [(one["hook"], one["there"]) for one in noted] == [
        ("backward", 0),
        ("tensor", 0),
        ("backward", 1),
        ("tensor", 0),
        ("backward", 2),
        ("tensor", 0),
    ]

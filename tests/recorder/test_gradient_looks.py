"""Looks at losses and gradients: which passes they come at, what they find, and that the program does not notice."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from gradscope.recorder.state.gradient_looks import is_due
from gradscope.recorder.state.value_ranges import Norms, Ranges, is_bad, is_zero
from gradscope.recording import Recording
from gradscope.recording.rows import EventKind
from tests.analysis.building import recorded
from tests.recorder.reading import tensor_called


def looks(recording: Recording, kind: EventKind) -> list[dict[str, Any]]:
    return [json.loads(recording.text(event.detail)) for event in recording.events if event.kind == kind]


def test_the_first_passes_are_looked_at_and_then_ever_fewer() -> None:
    due = [number for number in range(300) if is_due(number)]
    assert due == [0, 1, 2, 3, 8, 9, 16, 17, 32, 33, 64, 65, 128, 129, 256, 257]


def test_a_pass_from_what_no_pass_started_from_is_looked_at_however_late_it_comes() -> None:
    recording = recorded("""
    import torch
    w = torch.ones(2, requires_grad=True)
    for step in range(90):
        loss = (w * 2).sum()
        if step in (23, 47, 71):
            loss = loss + (w - w.detach()).pow(2).sum().sqrt()
        loss.backward()
        w.grad = None
    """)
    bad = [math.isnan(look["norms"][0]) for look in looks(recording, EventKind.GRADIENTS)]
    due = sum(map(is_due, range(90)))
    assert (sum(bad), len(bad)) == (2, due + 2)  # (the third time it is looked at no more often than others)


@pytest.mark.parametrize(
    ("tensor", "bad", "zero"),
    [
        (torch.tensor([1.0, math.nan]), True, False),
        (torch.tensor([1.0, -math.inf], dtype=torch.float16), True, False),
        (torch.zeros(2, 2), False, True),
        (torch.tensor([0.0, 1e-300], dtype=torch.float64), False, False),
        (torch.tensor([complex(0, math.nan)]), True, False),
    ],
)
def test_a_range_tells_what_a_tensor_holds(tensor: torch.Tensor, bad: bool, zero: bool) -> None:
    (found,) = Ranges([tensor]).read()
    assert (is_bad(found), is_zero(found)) == (bad, zero)


def test_norms_are_those_of_whole_tensors() -> None:
    half = torch.full((100_000,), 300.0, dtype=torch.float16)
    tensors = [torch.tensor([3.0, 4.0]), torch.tensor([complex(3, 4)]), half, torch.ones(2, dtype=torch.int64)]
    *known, unknown = Norms(tensors).read()
    assert known == pytest.approx([5.0, 5.0, 94868.3], rel=1e-3)
    assert unknown is None


def test_leaves_that_are_zero_as_their_gradient_is_are_noted() -> None:
    recording = recorded("""
    import torch
    a, b, c = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True), torch.ones(2, requires_grad=True)
    (a * b + 0 * c).sum().backward()
    """)
    given = [row.tensor for row in recording.event_tensors]
    (look,) = looks(recording, EventKind.GRADIENTS)
    assert {given[place] for place in look["zeros"]} == {tensor_called(recording, name) for name in "ab"}


def test_of_a_sparse_tensor_the_values_are_looked_at() -> None:
    assert Ranges([torch.tensor([[0.0, 1.0], [3.0, 0.0]]).to_sparse()]).read() == [(1.0, 3.0)]


def test_nothing_is_said_of_what_has_no_numbers() -> None:
    tensors = [torch.empty(0), torch.ones(2, dtype=torch.int64), torch.ones(2, device="meta"), torch.ones(1)]
    assert Ranges(tensors).read() == [None, None, None, (1.0, 1.0)]


def test_gradients_and_the_root_are_noted_with_their_pass() -> None:
    recording = recorded("""
    import torch
    w = torch.tensor([0.0, 4.0], requires_grad=True)
    (w.sqrt() * torch.tensor([1.0, 1.0])).sum().backward()
    """)
    (event,) = [event for event in recording.events if event.kind == EventKind.GRADIENTS]
    assert recording.text(recording.ops[event.subject].func) == "Tensor.backward"
    assert [row.tensor for row in recording.event_tensors] == [tensor_called(recording, "w")]
    assert looks(recording, EventKind.GRADIENTS) == [
        {"roots": [[2.0, 2.0]], "ranges": [[0.25, math.inf]], "norms": [math.inf]}
    ]
    (values,) = looks(recording, EventKind.VALUES)
    (derivative,) = values["derivatives"]
    assert recording.text(recording.nodes[derivative[0]].name) == "SqrtBackward0"
    assert derivative[1:] == [0.25, math.inf, 0.0]


def test_a_pass_that_is_well_leaves_no_values() -> None:
    recording = recorded("""
    import torch
    w = torch.ones(3, requires_grad=True)
    w.sqrt().sum().backward()
    """)
    assert not looks(recording, EventKind.VALUES)
    assert looks(recording, EventKind.GRADIENTS)


def test_a_loss_that_is_not_finite_is_looked_into_at_any_pass() -> None:
    recording = recorded("""
    import torch
    w = torch.ones(3, requires_grad=True)
    for step in range(7):
        (w / (0 if step == 5 else 1)).sum().backward()
    """)
    assert len(looks(recording, EventKind.GRADIENTS)) == 5
    assert len(looks(recording, EventKind.VALUES)) == 1


def test_what_is_on_a_device_is_read_at_the_next_look_or_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Ranges.__init__

    def far_away(self: Ranges, tensors: Any) -> None:
        make(self, tensors)
        self.is_free = False

    source = """
    import torch
    w = torch.tensor([0.0, 4.0], requires_grad=True)
    for step in range(3):
        w.sqrt().sum().backward()
    """
    near = recorded(source)
    monkeypatch.setattr(Ranges, "__init__", far_away)
    far = recorded(source)
    assert looks(far, EventKind.GRADIENTS) == looks(near, EventKind.GRADIENTS)
    for recording, later in ((near, 1), (far, 3)):  # (two calls, and the pass itself)
        at = [(event.op, event.subject) for event in recording.events if event.kind == EventKind.GRADIENTS]
        assert [op - subject for op, subject in at][:2] == [later, later]
    derivatives = [detail["derivatives"] for detail in looks(far, EventKind.VALUES)]
    assert [[values for _, *values in one] for one in derivatives] == [[[0.25, math.inf, None]]] * 3


PROGRAM = """
import torch

torch.manual_seed(0)
w = torch.rand(4, requires_grad=True)
seen = []
with torch.autograd.graph.saved_tensors_hooks(lambda x: seen.append("pack") or x, lambda x: seen.append("unpack") or x):
    hooked = w.log()
x = (w + 1).sqrt()
x.register_hook(lambda gradient: seen.append("hook"))
y = (x * hooked).log_softmax(0)
loss = y.sum() if DEFECT else y.pow(2).sum()
loss.backward(retain_graph=True)
gradient = torch.autograd.grad(loss, w, create_graph=True)[0]
seen += [loss._version, w._version, x._version, w.grad._version, gradient.requires_grad]
seen += [torch.is_grad_enabled(), torch.rand(1).item(), torch._C._autograd._get_sequence_nr(), w.grad.tolist()]
"""


@pytest.mark.parametrize("defect", [True, False])
def test_a_look_leaves_everything_as_it_was(defect: bool) -> None:
    def seen(run: Any) -> list[Any]:
        names: dict[str, Any] = {"DEFECT": defect}
        before = torch._C._autograd._get_sequence_nr()
        run(PROGRAM.replace("DEFECT", str(defect)), names)
        *found, number, gradient = names["seen"]
        return [*found, number - before, gradient]

    from gradscope.recorder.session import Recorder

    def watched(source: str, names: dict[str, Any]) -> None:
        with Recorder(is_user=lambda name: name == "<string>") as recorder:
            exec(source, names)
        assert not recorder.recording.faults
        assert looks(recorder.recording, EventKind.GRADIENTS)

    assert seen(watched) == seen(exec)


def test_no_backward_of_the_programs_is_run_for_a_look() -> None:
    recording = recorded("""
    import torch
    runs = []
    class Sqrt(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sqrt()
        @staticmethod
        def backward(ctx, gradient):
            runs.append(gradient)
            return gradient
    Sqrt.apply(torch.ones(2, requires_grad=True)).sum().backward()
    assert len(runs) == 1
    """)
    assert recording.info.outcome.kind == "ok"


def test_nothing_is_asked_while_a_mode_of_the_programs_would_see_it() -> None:
    recording = recorded("""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    seen = []
    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))
    w = torch.ones(2, requires_grad=True)
    with Mode():
        w.sqrt().sum().backward()
    assert not any("aminmax" in name for name in seen)
    """)
    assert recording.info.outcome.kind == "ok"
    assert not looks(recording, EventKind.GRADIENTS)


@pytest.mark.parametrize(
    ("weight", "alike"), [("torch.ones(4, 3)", [[0, 0]]), ("torch.rand(4, 3)", []), ("torch.zeros(4, 3)", [])]
)
def test_a_weight_whose_units_and_their_gradients_are_the_same(weight: str, alike: list[list[int]]):
    recording = recorded(
        f"import torch\nweight = torch.nn.Parameter({weight})\n(torch.rand(2, 3) @ weight.T).pow(2).sum().backward()"
    )
    (look,) = looks(recording, EventKind.GRADIENTS)
    assert look.get("alike", []) == alike


@pytest.mark.parametrize(("dtype", "is_kept"), [("float16", True), ("float32", False)])
def test_where_a_number_in_float16_was_too_large_all_that_the_graph_keeps_is_noted(dtype: str, is_kept: bool) -> None:
    recording = recorded(f"""
    import torch
    w = torch.full((4,), 300.0, dtype=torch.{dtype}, requires_grad=True)
    (w * 2 * torch.rsqrt((w * 2).pow(2).mean())).sum().backward()
    """)
    kept = [tuple(values) for look in looks(recording, EventKind.VALUES) for _, _, *values in look["keep"]]
    assert ((0.0, 0.0) in kept and (600.0, 600.0) in kept) == is_kept
    assert bool(kept) == is_kept

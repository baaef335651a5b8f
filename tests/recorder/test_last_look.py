"""What was done to a tensor by way of another one is known when the recording ends, and asking is not noticed."""

from __future__ import annotations

import threading
import warnings

import torch
from torch import nn

import gradscope
from gradscope.recorder.session import Recorder
from gradscope.recording.file.content_checks import check_content
from gradscope.recording.rows import Field
from tests.analysis.building import recorded
from tests.recorder.reading import changes_of, names_of, node_name, row_called, tensor_called


def after_the_last_op(recording):
    """(name, field) of each change that no op made."""
    return {
        (name, Field(row.field).name)
        for row in recording.changes
        if row.op == len(recording.ops) and row.before != row.after
        for name in names_of(recording, row.tensor)
    }


def test_a_write_through_another_tensor():
    with gradscope.record() as recording:
        base = torch.zeros(4)
        view = base[1:]
        detached = base.detach()
        detached.add_(1)
    assert base._version == view._version == 1
    for name in ("base", "view", "detached"):
        assert changes_of(recording, tensor_called(recording, name), Field.VERSION) == [(0, 1)], name
    check_content(recording)


def test_the_history_of_a_base_that_was_written_through_a_view():
    with gradscope.record() as recording:
        base = torch.ones(4, requires_grad=True) * 2
        view = base[1:]
        view.mul_(3)
    ((_, node),) = changes_of(recording, tensor_called(recording, "base"), Field.GRAD_FN)
    assert node_name(recording, node) == type(base.grad_fn).__name__ == "CopySlices"
    check_content(recording)


def test_a_gradient_that_autograd_grad_leaves():
    with gradscope.record() as recording:
        leaf = torch.ones(2, requires_grad=True)
        middle = leaf * 2
        middle.retain_grad()
        torch.autograd.grad(middle.sum(), leaf)
    assert middle.grad is not None
    ((before, _),) = changes_of(recording, tensor_called(recording, "middle"), Field.GRAD)
    assert before == -1
    check_content(recording)


def test_nothing_is_said_where_nothing_happened_unseen():
    with gradscope.record() as recording:
        net = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            net(torch.ones(1, 2)).sum().backward()
            optimizer.step()
        net.weight.grad = None
    assert after_the_last_op(recording) == set()


def test_a_node_of_another_thread_is_not_taken_for_a_new_one():
    """Each thread numbers its nodes from the same number, so nothing is said of them."""
    made = []

    def make():
        made.append(torch.ones(2, requires_grad=True).exp())

    with gradscope.record() as recording:
        near = torch.ones(2, requires_grad=True).exp()
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        theirs = made[0]
        theirs + 1
    assert {"near", "theirs"} <= {recording.text(row.name) for row in recording.bindings}
    assert after_the_last_op(recording) == set()
    del near


def test_what_cannot_be_asked_of_one_tensor_leaves_the_others():
    with warnings.catch_warnings(record=True) as shown, gradscope.record() as recording:
        warnings.simplefilter("always")
        base = torch.ones(4, requires_grad=True) * 2
        with torch.no_grad():
            forbidden = base[1:]
        other = torch.zeros(3)
        base.mul_(2)
        other.detach().add_(1)
        sparse, inferred = torch.zeros(2).to_sparse(), torch.ones(1)
        with torch.inference_mode():
            inferred = torch.ones(1)
        nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    assert changes_of(recording, tensor_called(recording, "inferred"), Field.VERSION) == []  # it has no counter
    del forbidden, sparse, inferred, nested
    assert changes_of(recording, tensor_called(recording, "other"), Field.VERSION) == [(0, 1)]
    assert not recording.faults
    assert not [warning for warning in shown if "nested" not in str(warning.message)]


def test_a_subclass_is_asked_without_running_its_code():
    class Telling(torch.Tensor):
        calls = 0

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            cls.calls += 1
            return super().__torch_function__(func, types, args, kwargs or {})

    with gradscope.record() as recording:
        telling = torch.ones(2).as_subclass(Telling)
        telling.detach().add_(1)
        calls = Telling.calls
    assert Telling.calls == calls and not recording.faults
    assert changes_of(recording, tensor_called(recording, "telling"), Field.VERSION) == [(0, 1)]


def test_tensors_of_the_last_statement_that_no_call_showed():
    namespace = {"made": None, "__own__": None}
    recorder = Recorder(is_user=lambda name: name == __file__)
    with recorder:
        values = torch.ones(2)
        recorder.leave_thread()
        namespace.update(made=nn.Parameter(values), __own__=torch.ones(3))
        recorder.stop(namespace, __file__)
    assert row_called(recorder.recording, "made").op == len(recorder.recording.ops)
    assert not any("__own__" in names_of(recorder.recording, row) for row in range(len(recorder.recording.tensors)))


def test_what_a_call_made_that_no_later_op_used_is_put_down_to_it():
    recording = recorded(
        """
        import torch
        class Square(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * x
            @staticmethod
            def backward(ctx, gradient):
                return gradient
        x = torch.ones(2, requires_grad=True)
        y = Square.apply(x)
        p = torch.nn.Parameter(torch.ones(3))
        """
    )
    made = {recording.text(op.func): recording.spans[op.span].line for op in recording.ops}
    assert (made["Square.apply"], made["torch.nn.Parameter"]) == (10, 11)

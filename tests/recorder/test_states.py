"""What the recorder says of tensors is what torch says when it is asked directly."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gradscope
from gradscope.recorder import session
from gradscope.recording import NONE
from gradscope.recording.rows import Field, GradOutcome, OpFlag, OpKind, TensorFlag
from tests.recorder.reading import (
    call_text,
    changes_of,
    functions,
    line_of,
    names_of,
    node_name,
    op_named,
    row_called,
    tensor_called,
)


def test_each_tensor_is_recorded_as_torch_reports_it():
    with gradscope.record() as recording:
        leaf = torch.ones(2, 3, requires_grad=True)
        product = leaf * 2
        part = product[0]
        detached = product.detach()
        plain = torch.zeros(4, dtype=torch.int64)
        with torch.no_grad():
            untracked = leaf + 1
        with torch.inference_mode():
            inferred = leaf + 1
        end = (part, detached, plain, untracked, inferred)
    assert not recording.faults
    for name, tensor in {"leaf": leaf, "product": product, "part": end[0], "detached": end[1], "plain": end[2]}.items():
        row = row_called(recording, name)
        layout = recording.layouts[row.layout]
        assert bool(row.flags & TensorFlag.REQUIRES_GRAD) == tensor.requires_grad, name
        assert bool(row.flags & TensorFlag.LEAF) == tensor.is_leaf, name
        assert node_name(recording, row.node) == (tensor.grad_fn and tensor.grad_fn.name()), name
        assert recording.text(layout.shape) == str(tuple(tensor.shape)), name
        assert f"torch.{recording.text(layout.dtype)}" == str(tensor.dtype), name
        assert recording.storages[row.storage].data_ptr == tensor.untyped_storage().data_ptr(), name
    assert row_called(recording, "inferred").flags & TensorFlag.INFERENCE
    assert not row_called(recording, "untracked").flags & TensorFlag.REQUIRES_GRAD
    in_inference = [op for op in recording.ops if op.flags & OpFlag.INFERENCE]
    assert [line_of(recording, op) for op in in_inference] == [
        "with torch.inference_mode():",
        "inferred = leaf + 1",
    ]


def test_aliases_know_their_base_offset_and_whether_a_version_counter_is_shared():
    with gradscope.record() as recording:
        base = torch.zeros(6)
        view = base[2:]
        detached = base.detach()
        data = base.data
        copied = base.clone()
    aliases = {row.tensor: row for row in recording.aliases}
    offset_of = {"view": 2, "detached": 0, "data": 0}
    for name, tensor in {"view": view, "detached": detached, "data": data}.items():
        alias = aliases[tensor_called(recording, name)]
        assert alias.base == tensor_called(recording, "base")
        assert alias.offset == tensor.storage_offset() == offset_of[name]
    # Asked of torch: a write through one bumps the counter of those that share it.
    before = {"view": view._version, "detached": detached._version, "data": data._version}
    base.add_(1)
    for name, tensor in {"view": view, "detached": detached, "data": data}.items():
        shares = tensor._version != before[name]
        assert aliases[tensor_called(recording, name)].shares_version == int(shares), name
    assert tensor_called(recording, "copied") not in aliases
    assert copied._version == 0


def test_in_place_changes_and_flags_are_changes_of_the_tensor():
    with gradscope.record() as recording:
        x = torch.ones(3)
        x.requires_grad_()
        y = x * 2
        y.mul_(3)
        z = torch.zeros(3)
        z[0] = 5
        z += y
    row = tensor_called(recording, "x")
    assert changes_of(recording, row, Field.REQUIRES_GRAD) == [(0, 1)]
    y_row = tensor_called(recording, "y")
    assert changes_of(recording, y_row, Field.VERSION) == [(0, 1)]
    assert [node_name(recording, after) for _, after in changes_of(recording, y_row, Field.GRAD_FN)] == [
        y.grad_fn.name()
    ]
    z_row = tensor_called(recording, "z")
    assert changes_of(recording, z_row, Field.VERSION) == [(0, 1), (1, 2)]
    assert changes_of(recording, z_row, Field.REQUIRES_GRAD) == [(0, 1)]
    assert changes_of(recording, z_row, Field.LEAF) == [(1, 0)]
    assert z._version == 2


def test_a_backward_pass_says_who_received_a_gradient():
    with gradscope.record() as recording:
        used = torch.ones(4, requires_grad=True)
        unused = torch.ones(4, requires_grad=True)
        for _ in range(2):
            (used * 3).sum().backward()
    _, op = op_named(recording, "Tensor.backward")
    assert op.kind == OpKind.BACKWARD
    outcomes = [(row.tensor, GradOutcome(row.outcome).name, row.nbytes) for row in recording.gradients]
    first, second = tensor_called(recording, "used"), row_index(recording, unused)
    assert [(name, size) for tensor, name, size in outcomes if tensor == first] == [("CREATED", 16), ("ACCUMULATED", 0)]
    assert [name for tensor, name, _ in outcomes if tensor == second] == ["MISSING", "MISSING"]


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("by_core", [True, False])
def test_a_gradient_at_the_address_of_the_one_that_it_replaces_is_another(by_core, monkeypatch):
    """A pass that makes a graph replaces the gradient, and the new object is often where the old one was."""
    if not by_core:
        monkeypatch.setattr(session, "core_of", lambda observer: None)
    weight = torch.ones(3, requires_grad=True)
    weight.grad = torch.zeros(3)  # (not known before the first pass)
    with gradscope.record() as recording:
        for _ in range(120):
            weight.exp().sum().backward(create_graph=True)
    outcomes = [(GradOutcome(row.outcome).name, row.nbytes) for row in recording.gradients]
    assert outcomes == [("ACCUMULATED", 12)] * 120


def row_index(recording, tensor):
    return next(
        row
        for row, seen in enumerate(recording.tensors)
        if recording.storages[seen.storage].data_ptr == tensor.untyped_storage().data_ptr()
    )


def test_the_graph_leads_to_the_leaves_that_torch_leads_to():
    with gradscope.record() as recording:
        weight = torch.ones(3, requires_grad=True)
        bias = torch.ones(3, requires_grad=True)
        loss = (weight.exp() * 2 + bias).sum()
    following: dict[int, list[int]] = {}
    for edge in recording.edges:
        following.setdefault(edge.node, []).append(edge.next)

    def names(node):
        return [
            node_name(recording, node),
            [names(child) if child != NONE else None for child in following.get(node, [])],
        ]

    def torch_names(node):
        return [
            type(node).__name__,
            [torch_names(child) if child is not None else None for child, _ in node.next_functions],
        ]

    assert names(row_called(recording, "loss").node) == torch_names(loss.grad_fn)
    variables = {recording.nodes[row].variable for row in range(len(recording.nodes))} - {NONE}
    assert {frozenset(names_of(recording, variable)) for variable in variables} == {
        frozenset({"weight"}),
        frozenset({"bias"}),
    }
    del bias


def test_saved_tensors_are_read_from_the_nodes():
    with gradscope.record() as recording:
        a = torch.ones(1000, requires_grad=True)
        b = torch.ones(1000)
        product = a * b
        result = product.exp()
    saved = {}
    for row in recording.saved:
        saved.setdefault(node_name(recording, row.node), {})[recording.text(row.attr)] = row
    # a is not needed for the gradient of b, which wants none; exp keeps its own result.
    assert set(saved["MulBackward0"]) == {
        name.removeprefix("_saved_") for name in ("_saved_other",) if product.grad_fn._saved_other is not None
    }
    assert saved["MulBackward0"]["other"].tensor == tensor_called(recording, "b")
    assert saved["ExpBackward0"]["result"].storage == row_called(recording, "result").storage
    assert saved["ExpBackward0"]["result"].nbytes == result.nbytes


def test_an_op_is_put_down_to_its_exact_span():
    with gradscope.record() as recording:
        x = torch.ones(2)
        y = (x + 1) * (x - 1)
    assert [call_text(recording, op) for op in recording.ops] == [
        "torch.ones(2)",
        "x + 1",
        "x - 1",
        "(x + 1) * (x - 1)",
    ]
    assert tensor_called(recording, "y") == 3
    del y


def test_an_optimizer_step_is_one_op_with_its_effects():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    with gradscope.record() as recording:
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        after = model.weight * 2
    index, op = op_named(recording, "Adam.step")
    assert (op.kind, op.calls) == (OpKind.STEP, 2)
    assert line_of(recording, op) == "optimizer.step()"
    changed = [row for row in recording.changes if row.op == index and row.field == Field.VERSION and row.before > 0]
    assert {names for row in changed for names in names_of(recording, row.tensor)} >= {"model.weight"}
    state = [row for row in recording.tensors if row.op == index and not row.flags & TensorFlag.EXTERNAL]
    assert len(state) == sum(len(held) for held in optimizer.state.values())
    assert functions(recording)[-1] == "Tensor.mul"
    del after


def test_an_optimizer_step_that_raises_leaves_the_recorder_at_work():
    parameter = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([parameter])
    parameter.grad = torch.zeros(3).to_sparse()
    depth = torch._C._len_torch_function_stack()
    with gradscope.record() as recording:
        try:
            optimizer.step()
        except RuntimeError:
            caught = True
        after = torch.ones(1) + 1
    assert caught
    assert functions(recording)[-2:] == ["torch.ones", "Tensor.add"]
    assert torch._C._len_torch_function_stack() == depth
    del after


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.scale = torch.ones(5)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 * x


def test_what_a_function_mode_does_not_see_is_found_by_its_name():
    import numpy as np

    with gradscope.record() as recording:
        weight = nn.Parameter(torch.ones(3))
        array = torch.from_numpy(np.ones(3, dtype=np.float32))
        squared = Square.apply(weight)
        total = (squared + array).sum()
    made = {recording.text(op.func): line_of(recording, op) for op in recording.ops if op.flags & OpFlag.MADE}
    assert made == {
        "nn.Parameter": "weight = nn.Parameter(torch.ones(3))",
        "torch.from_numpy": "array = torch.from_numpy(np.ones(3, dtype=np.float32))",
        "Square.apply": "squared = Square.apply(weight)",
    }
    by_function = {recording.text(row.attr): row.nbytes for row in recording.saved}
    assert by_function["saved_tensors"] == 12
    assert by_function["ctx.scale"] == 20
    del total


def test_modules_name_their_parameters_and_initialisation_is_one_op():
    with gradscope.record() as recording:
        model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        result = model(torch.ones(1, 2))
    assert functions(recording) == ["nn.Linear.__init__", "torch.ones", "F.linear", "F.relu"]
    bound = {recording.text(row.name) for row in recording.bindings}
    assert {"model.0.weight", "model.0.bias", "result"} <= bound
    del result


def test_an_error_is_kept_with_the_op_that_raised_and_goes_on_unchanged():
    x = torch.ones(2, requires_grad=True)
    with gradscope.record() as recording, pytest.raises(RuntimeError) as caught:
        y = x.exp()
        y.add_(1)
        y.sum().backward()
    (error,) = recording.errors
    assert recording.text(recording.ops[error.op].func) == "Tensor.backward"
    assert recording.text(error.message) == str(caught.value)
    assert recording.ops[error.op].flags & OpFlag.RAISED


def test_grad_is_seen_when_it_is_read_and_when_it_is_set():
    with gradscope.record() as recording:
        x = torch.ones(2, requires_grad=True)
        x.sum().backward()
        read = x.grad
        x.grad = None
    assert op_named(recording, "Tensor.grad.__get__")[1].kind == OpKind.READ_GRAD
    row = tensor_called(recording, "x")
    assert changes_of(recording, row, Field.GRAD) == [(tensor_called(recording, "read"), NONE)]
    del read


def test_values_are_recorded_only_where_asked():
    with gradscope.record(values=True) as recording:
        x = torch.tensor([1.0, 2.0])
        x[0] = 6
        large = torch.zeros(1000)
    assert [recording.text(row.text) for row in recording.values] == ["[1.0, 2.0]", "[6.0, 2.0]"]
    with gradscope.record() as silent:
        torch.tensor([1.0])
    assert len(silent.values) == 0
    del large


def test_max_ops_leaves_ops_out_and_counts_them():
    with gradscope.record(max_ops=1) as recording:
        x = torch.ones(1)
        for _ in range(6000):
            x = x + 1
    kept = len(recording.ops)
    (left_out,) = recording.left_out
    assert recording.text(left_out.func) == "Tensor.add"
    assert kept + left_out.left_out == 6001


def test_an_op_in_place_is_not_taken_for_an_unseen_call():
    with gradscope.record() as recording:
        weight = torch.ones(2, requires_grad=True)
        out = torch.zeros(2)
        out.add_(weight)
    assert functions(recording) == ["torch.ones", "torch.zeros", "Tensor.add_"]

"""What is recorded of single calls: each test would miss one column or one row."""

from __future__ import annotations

import sysconfig
import threading
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

import gradscope
from gradscope.frames.statements import parse_source
from gradscope.recording import NONE, Recording
from gradscope.recording.rows import Field, GradOutcome, OpFlag
from tests.recorder.reading import (
    changes_of,
    functions,
    line_of,
    node_name,
    op_named,
    row_called,
    tensor_called,
)


def test_autocast_is_noted_at_each_op():
    with gradscope.record() as recording:
        a = torch.ones(2, 2)
        with torch.autocast("cpu", torch.bfloat16):
            b = a @ a
        c = a @ a
    under = [line_of(recording, op) for op in recording.ops if op.flags & OpFlag.AUTOCAST]
    assert under == ["b = a @ a"]
    del b, c


def matched_in_loop(recording: Recording, name: str) -> set[int]:
    """The tensors that a name was seen to hold, without the look at the end of the run."""
    return {row.tensor for row in recording.bindings if recording.text(row.name) == name and row.span != NONE}


def test_in_a_long_loop_names_are_matched_ever_more_rarely_but_never_given_up():
    with gradscope.record() as recording:
        x = torch.ones(1)
        for step in range(70):
            y = x + step
            y.neg()
    assert 16 < len(matched_in_loop(recording, "y")) < 25


def librarys_function(text: str) -> Any:
    """A function of a third-party package."""
    library: dict[str, Any] = {}
    exec(compile(f"def function{text}", f"{sysconfig.get_path('purelib')}/library.py", "exec"), library)
    return library["function"]


def test_names_are_matched_as_rarely_where_a_library_makes_the_ops():
    add = librarys_function("(a, b): return a + b")
    with gradscope.record() as recording:
        x = torch.ones(1)
        for step in range(70):
            y = add(x, step)
            add(y, 1)
    assert 16 < len(matched_in_loop(recording, "y")) < 25


def test_a_step_counts_only_what_it_updated():
    used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([used, unused], lr=0.1)
    used.sum().backward()
    with gradscope.record() as recording:
        optimizer.step()
    at, op = op_named(recording, "SGD.step")
    assert op.calls == 1
    assert len({row.tensor for row in recording.changes if (row.op, row.field) == (at, Field.VERSION)}) == 1


def test_a_pass_that_raises_has_its_root():
    x = torch.ones(2, requires_grad=True)
    with gradscope.record() as recording, pytest.raises(RuntimeError):
        y = x.exp()
        y.add_(1)
        z = y.sum()
        z.backward()
    (error,) = recording.errors
    assert [(row.op, row.root) for row in recording.backwards] == [(error.op, tensor_called(recording, "z"))]


def test_a_retained_gradient_is_seen():
    with gradscope.record() as recording:
        x = torch.ones(2, requires_grad=True)
        y = x * 2
        y.retain_grad()
        y.sum().backward()
    received = {row.tensor for row in recording.gradients if row.outcome == GradOutcome.CREATED}
    assert received == {tensor_called(recording, "x"), tensor_called(recording, "y")}


class Kept(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].exp()


def test_what_a_function_saved_under_hooks_is_not_unpacked():
    calls = []
    x = torch.ones(3, requires_grad=True)
    with gradscope.record():
        with saved_tensors_hooks(lambda tensor: tensor, lambda tensor: calls.append("unpack") or tensor):
            out = Kept.apply(x)
        after = out * 2
    assert calls == []
    del after


def test_a_function_whose_result_no_tracked_op_takes_is_seen_in_every_run():
    x = torch.ones(3, requires_grad=True)
    with gradscope.record() as recording:
        for _ in range(40):
            h = x.detach() + x
            h = Kept.apply(h)
            torch.set_grad_enabled(False)
            h = h * 2
            torch.set_grad_enabled(True)
    assert functions(recording).count("Kept.apply") == 40


def test_a_pass_from_what_a_function_returned_starts_at_its_node():
    x = torch.ones((), requires_grad=True)
    with gradscope.record() as recording:
        for _ in range(20):
            Kept.apply(x).backward()
        y = Kept.apply(x)
        y.backward()
    assert {node_name(recording, row.node) for row in recording.backwards} == {"KeptBackward"}
    assert len(recording.saved) == 21  # (looked at before the pass has freed it)
    assert functions(recording).count("Kept.apply") == 21


def test_a_call_that_touches_no_tensor_is_no_op():
    x = torch.ones(3)
    with gradscope.record() as recording:
        kind = x.type()
        y = x + 1
    assert functions(recording) == ["Tensor.add"]
    del kind, y


def test_leaves_that_died_are_not_looked_at_by_later_passes():
    def step():
        leaf = torch.ones(2, requires_grad=True)
        (leaf * 2).sum().backward()

    with gradscope.record() as recording:
        for _ in range(3):
            step()
    assert [row.outcome for row in recording.gradients] == [GradOutcome.CREATED] * 3


def test_the_base_of_a_view_of_a_view_is_the_nearer_one():
    with gradscope.record() as recording:
        a = torch.zeros(6)
        b = a[2:]
        c = b[1:]
    aliases = {row.tensor: row for row in recording.aliases}
    assert aliases[tensor_called(recording, "c")].base == tensor_called(recording, "b")
    assert aliases[tensor_called(recording, "c")].offset == c.storage_offset() == 3
    del a


def test_counters_whose_values_are_one_apart_are_not_taken_for_one():
    with gradscope.record() as recording:
        a = torch.zeros(3)
        a.add_(1)
        data = a.data
    (alias,) = recording.aliases
    assert (a._version, data._version, alias.shares_version) == (1, 0, 0)


def test_a_tensor_that_was_written_to_before_it_was_seen_has_its_version():
    x = torch.ones(2)
    x.add_(1).add_(1)
    with gradscope.record() as recording:
        y = x * 2
    assert changes_of(recording, tensor_called(recording, "x"), Field.VERSION) == [(0, x._version)]
    del y


def test_saved_lists_of_tensors_are_read():
    with gradscope.record() as recording:
        x = torch.ones(4, requires_grad=True)
        at = torch.tensor([0, 2])
        y = x[at]
    (row,) = [row for row in recording.saved if recording.text(row.attr) == "indices"]
    assert (row.nbytes, row.storage) == (16, row_called(recording, "at").storage)
    del y


def test_nodes_of_two_threads_with_one_number_are_told_apart():
    x, made = torch.ones(2, requires_grad=True), {}

    def one():
        made["exp"] = x.exp()

    def two():
        x.sin()  # the same number in this thread
        made["end"] = made["exp"] * 2

    with gradscope.record() as recording:
        for work in (one, two):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    following = {}
    for edge in recording.edges:
        following.setdefault(edge.node, []).append(node_name(recording, edge.next))
    (end,) = [node for node in range(len(recording.nodes)) if node_name(recording, node) == "MulBackward0"]
    expected = [None if node is None else type(node).__name__ for node, _ in made["end"].grad_fn.next_functions]
    assert following[end] == expected == ["ExpBackward0", None]


def test_a_leaf_since_later_receives_its_gradient():
    with gradscope.record() as recording:
        p = torch.ones(2)
        p.requires_grad_()
        (p * 2).sum().backward()
    assert [(row.tensor, row.outcome) for row in recording.gradients] == [
        (tensor_called(recording, "p"), GradOutcome.CREATED)
    ]


@pytest.mark.parametrize(
    "call",
    [
        lambda y, x: torch.autograd.grad(y, x, None, True),
        lambda y, x: torch.autograd.grad(outputs=y, inputs=x, retain_graph=True),
        lambda y, x: torch.autograd.grad(y, x, create_graph=True),
        lambda y, x: y.backward(None, True),
        lambda y, x: y.backward(create_graph=True),
        lambda y, x: torch.autograd.backward(tensors=y, retain_graph=True),
    ],
    ids=["grad by position", "grad by name", "grad creates", "backward by position", "backward creates", "by name"],
)
@pytest.mark.filterwarnings("ignore:Using backward")
def test_the_root_and_whether_the_graph_is_kept_however_it_is_called(call):
    with gradscope.record() as recording:
        x = torch.ones(2, requires_grad=True)
        y = (x * x).sum()
        call(y, x)
    assert [(row.root, row.retain_graph) for row in recording.backwards] == [(tensor_called(recording, "y"), 1)]


@pytest.mark.filterwarnings("ignore:Using backward")
def test_a_gradient_that_is_another_tensor_now_was_accumulated():
    with gradscope.record() as recording:
        x = torch.ones(2, requires_grad=True)
        for _ in range(2):
            (x * x).sum().backward(create_graph=True)
    assert [GradOutcome(row.outcome).name for row in recording.gradients] == ["CREATED", "ACCUMULATED"]


@pytest.mark.parametrize("how", ["hook", "closure", "closure by name"])
def test_what_a_step_runs_of_the_users_is_recorded(how):
    w = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1)
    optimizer.zero_grad()
    (w * 2).sum().backward()

    def closure():
        return (w * 3).sum()

    with gradscope.record() as recording:
        if how == "hook":
            optimizer.register_step_post_hook(lambda *_: w * 3)
            optimizer.step()
        elif how == "closure":
            optimizer.step(closure)
        else:
            optimizer.step(closure=closure)
    assert "Tensor.mul" in functions(recording)


def test_tensors_in_a_list_and_a_dict_are_named_by_their_place():
    with gradscope.record() as recording:
        parts = [torch.ones(1), torch.zeros(1)]
        named = {"w": torch.ones(2)}
        end = parts[0] + parts[1] + named["w"]
    names = {recording.text(row.name) for row in recording.bindings}
    assert {"parts[0]", "parts[1]", "named['w']"} <= names
    del end


def test_the_assigning_call_is_not_guessed():
    either = "def f(w):\n    if w:\n        y = A.apply(w)\n    else:\n        y = B.apply(w)\n    return y * 2\n"
    assert parse_source(either).call_assigned_to("y", 0, 6) is None


def test_a_call_over_several_lines_has_its_whole_span():
    with gradscope.record() as recording:
        y = torch.add(
            torch.ones(2),
            1,
        )
    _, op = op_named(recording, "torch.add")
    span = recording.spans[op.span]
    assert recording.source(span.file, span.line, span.end_line).split()[-1] == ")"
    assert span.end_line - span.line == 3
    del y

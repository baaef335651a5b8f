"""One call into torch's own Python that ran many ops: what went into it from outside, each tensor once."""

import pytest
import torch

from gradscope.recording import Recording
from gradscope.recording.rows import OpFlag
from tests.analysis.building import recorded
from tests.recorder.reading import functions, op_named, tensor_called


def test_everything_that_went_in_is_an_input_once() -> None:
    recording = recorded("""
    import torch
    from torch.distributions import Normal
    mean, spread = torch.zeros(3, requires_grad=True), torch.ones(3, requires_grad=True)
    value = torch.ones(3)
    dist = Normal(mean, spread, validate_args=False)
    logp = dist.log_prob(value)
    """)
    op, row = op_named(recording, "distributions.Normal.log_prob")
    uses = recording.uses
    taken = [tensor for at, tensor in zip(uses.column("op"), uses.column("tensor"), strict=True) if at == op]
    outside = [tensor for tensor in taken if recording.tensors.column("op")[tensor] != op]
    assert row.calls > 5
    assert taken == outside
    assert len(taken) == len(set(taken))
    assert tensor_called(recording, "value") in taken
    assert {recording.tensors[tensor].op for tensor in taken} < set(range(op))


def test_a_call_that_runs_an_op_a_thousand_times_adds_no_thousand_inputs() -> None:
    recording = recorded("""
    import torch
    parameters = [torch.ones(2, requires_grad=True) for _ in range(40)]
    for parameter in parameters:
        parameter.grad = torch.ones(2)
    torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=False)
    """)
    op, row = op_named(recording, "nn.utils.clip_grad_norm_")
    assert row.calls >= 80
    assert sum(at == op for at in recording.uses.column("op")) <= 80


def rows_of(recording: Recording, label: str) -> list[bool]:
    """For each op of a label: whether it goes on with a call that has one already."""
    recorded_ops = (op for op in recording.ops if recording.text(op.func) == label)
    return [bool(op.flags & OpFlag.CONTINUED) for op in recorded_ops]


def test_calls_that_follow_each_other_at_once_are_calls_of_their_own() -> None:
    recording = recorded("""
    import torch
    weight = torch.zeros(3, 3)
    for step in range(4):
        torch.nn.init.xavier_uniform_(weight)
    """)
    assert rows_of(recording, "nn.init.xavier_uniform_") == [False] * 4


def test_a_call_that_runs_the_user_s_code_is_continued_after_it() -> None:
    recording = recorded("""
    import torch
    point = torch.ones(3)
    for step in range(2):
        torch.func.grad(lambda at: (at * 2).sin().sum())(point)
    """)
    assert rows_of(recording, "torch.grad_impl") == [False, True] * 2


def test_a_call_whose_first_op_was_taken_back_begins_with_the_next() -> None:
    recording = recorded("""
    import torch
    def twice(at):
        return (at * 2).sum()
    for step in range(3):
        torch.autograd.functional.vjp(twice, torch.ones(3))
    """)
    assert sorted(rows_of(recording, "vjp")).count(False) == 3


def test_tracing_that_begins_inside_a_call_is_the_program_s() -> None:
    recording = recorded("""
    import sys, torch
    lines = []
    def trace(frame, event, value):
        if frame.f_code.co_name == "after":
            lines.append(event)
        return trace
    def after():
        return 1
    def inside(at):
        result = (at * 2).sin().sum()
        sys.settrace(trace)
        after()
        return result
    torch.func.grad(inside)(torch.ones(3))
    sys.settrace(None)
    assert lines == ["call", "line", "return"], lines
    """)
    assert recording.info.outcome.kind == "ok", recording.info.outcome.message
    assert rows_of(recording, "torch.grad_impl") == [False, True]


def test_a_step_that_dynamo_lets_alone_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.optim.LBFGS([torch.ones(1, requires_grad=True)])  # (torch wraps the step of a class with the first of it)
    monkeypatch.setattr(torch.optim.LBFGS, "step", torch._dynamo.disable(torch.optim.LBFGS.step))
    recording = recorded(
        """
        import torch
        w = torch.ones(2, requires_grad=True)
        search = torch.optim.LBFGS([w], max_iter=1)
        search.step(lambda: w.pow(2).sum())
        """
    )
    assert {"optim.LBFGS.step"} < set(functions(recording))
    assert "<module>" not in functions(recording)


def test_a_copy_of_a_module_takes_of_each_buffer_the_buffer_alone_and_not_what_was_copied_before_it() -> None:
    recording = recorded("""
    import copy, torch
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
    twin = copy.deepcopy(model)
    """)
    uses, names = recording.uses, functions(recording)
    taken: dict[int, list[int]] = {op: [] for op, name in enumerate(names) if name == "Tensor.__deepcopy__"}
    for op, tensor in zip(uses.column("op"), uses.column("tensor"), strict=True):
        if op in taken:
            taken[op].append(tensor)
    of = ("running_mean", "running_var", "num_batches_tracked")
    assert list(taken.values()) == [[tensor_called(recording, f"model.1.{name}")] for name in of]

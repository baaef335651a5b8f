"""Writes that raise no version counter: the table of them is what torch does, and the recorder's rows follow it."""

from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradscope.recorder.torch_internals.uncounted_writes import MAYBE, SAME_VALUES, UNCOUNTED, took_place
from gradscope.recording.rows import Field, OpKind
from tests.analysis.building import recorded
from tests.recorder.reading import changes_of, op_named, tensor_called
from tests.recorder.uncounted import WatchedMemory
from tests.transparency.operators import MODULES, OPERATORS, dtype_of, run_module, run_operator, tensors_of

X = torch.arange(12.0).reshape(4, 3)
STATISTICS = ("running_mean", "running_var")


def ones(*, count: int = 1) -> list[torch.Tensor]:
    return [torch.ones(3) for _ in range(count)]


def statistics() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(3), torch.ones(3)


def observer() -> list[torch.Tensor]:
    return [torch.tensor([0.0]), torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([9], dtype=torch.int32)]


def scan() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(4, 3), torch.full((4, 3), 7)


ADAM: dict[str, Any] = {"lr": 0.1, "beta1": 0.9, "beta2": 0.9, "weight_decay": 0.0, "eps": 1e-8, "maximize": False}
SGD: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "dampening": 0.0, "nesterov": False}


def adam(function: Any) -> None:
    state = [[torch.zeros(3)], [torch.zeros(3)], [torch.zeros(3)], [torch.tensor(1.0)]]
    function(ones(), ones(), *state, amsgrad=True, **ADAM)


CALLS = {
    "F.batch_norm": lambda: F.batch_norm(X, *statistics(), training=True),
    "torch.batch_norm": lambda: torch.batch_norm(X, None, None, *statistics(), True, 0.1, 1e-5, False),
    "torch.native_batch_norm": lambda: torch.native_batch_norm(X, None, None, *statistics(), True, 0.1, 1e-5),
    "torch._native_batch_norm_legit": lambda: torch._native_batch_norm_legit(
        X, None, None, *statistics(), True, 0.1, 1e-5
    ),
    "torch._batch_norm_impl_index": lambda: torch._batch_norm_impl_index(
        X, None, None, *statistics(), True, 0.1, 1e-5, False
    ),
    "torch.batch_norm_update_stats": lambda: torch.batch_norm_update_stats(X, *statistics(), 0.1),
    "torch.fused_moving_avg_obs_fake_quant": lambda: torch.fused_moving_avg_obs_fake_quant(
        X + 1, torch.tensor([1]), torch.tensor([1]), *observer(), 0.1, 0, 255, 0
    ),
    "torch.kron": lambda: torch.kron(X, X, out=torch.zeros(16, 9)),
    "F.rrelu_with_noise": lambda: torch._C._nn.rrelu_with_noise(-X, torch.zeros(4, 3), 0.1, 0.3, True),
    "torch._cummax_helper": lambda: torch._cummax_helper(X, *scan(), 0),
    "torch._cummin_helper": lambda: torch._cummin_helper(X + 1, *scan(), 0),
    "torch._amp_foreach_non_finite_check_and_unscale_": lambda: torch._amp_foreach_non_finite_check_and_unscale_(
        ones(), torch.tensor(0.0), torch.tensor(0.5)
    ),
    "torch._fused_sgd_": lambda: torch._fused_sgd_(
        ones(), ones(), [torch.zeros(3)], maximize=False, is_first_step=False, **SGD
    ),
    "torch._fused_adam_": lambda: adam(torch._fused_adam_),
    "torch._fused_adamw_": lambda: adam(torch._fused_adamw_),
    "torch._fused_adagrad_": lambda: torch._fused_adagrad_(
        ones(), ones(), [torch.zeros(3)], [torch.tensor(1.0)], lr=0.1, lr_decay=0.0, weight_decay=0.0, eps=1e-8,
        maximize=False,
    ),
}  # fmt: skip
"""One call of each function of the table that the CPU has and a function mode is handed."""

KEYWORDS = {(2, "out"): "out"}
"""Arguments that can be given by name only."""

ELSEWHERE = {
    "torch.cudnn_batch_norm",
    "torch.miopen_batch_norm",
    "torch.batch_norm_gather_stats",
    "torch.batch_norm_gather_stats_with_counts",
    "torch.ops.aten._batch_norm_with_update",  # no function mode is handed it
}
UNSCALED = {("torch._amp_foreach_non_finite_check_and_unscale_", 1)}
"""``found_inf``, where something was found."""


def declared() -> set[tuple[str, int | str]]:
    """Every place at which an argument of the table can be given."""
    return {(name, place) for name, row in UNCOUNTED.items() for argument in row.written for place in argument}


@pytest.mark.parametrize("name", CALLS)
def test_torch_writes_exactly_what_the_table_says_and_counts_none_of_it(name: str) -> None:
    with WatchedMemory() as memory:
        CALLS[name]()
    found = {place for function, place in memory.found if function == name}
    assert found == {KEYWORDS.get(place, place[0]) for place in UNCOUNTED[name].written}


def test_each_row_of_the_table_is_measured_or_is_not_of_the_cpu() -> None:
    assert set(UNCOUNTED) == set(CALLS) | ELSEWHERE
    with_update = torch.ops.aten._batch_norm_with_update
    mean, variance = statistics()
    with_update(X, None, None, mean, variance, 0.1, 1e-5)
    assert mean.any() and mean._version == 0


@pytest.mark.parametrize("name", [name for name in CALLS if "batch_norm" in name and UNCOUNTED[name].only_if])
def test_nothing_is_written_in_evaluation(name: str) -> None:
    row, mean = UNCOUNTED[name], torch.zeros(3)
    arguments: list[Any] = [None] * 8
    arguments[row.written[0][0]] = mean
    arguments[5] = True
    assert row.by_call(arguments, {})[0][0] is mean
    arguments[5] = False
    assert not row.by_call(arguments, {})
    assert not row.by_call(arguments[:5], {})


@pytest.mark.sweep
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.formatted_name)
def test_no_operator_writes_uncounted_what_the_table_has_not(operator: Any) -> None:
    memory = WatchedMemory()
    for _ in run_operator(operator, 40, lambda: memory):
        pass
    assert memory.found <= declared() | UNSCALED


@pytest.mark.sweep
@pytest.mark.parametrize("operator", [one for one in OPERATORS if one.supports_out], ids=lambda one: one.formatted_name)
def test_no_operator_writes_out_uncounted_that_the_table_has_not(operator: Any) -> None:
    memory = WatchedMemory()
    for sample in islice(operator.sample_inputs("cpu", dtype_of(operator)), 3):
        call = partial(operator.op, sample.input, *sample.args, **sample.kwargs)
        results = call()
        single = isinstance(results, torch.Tensor)
        if not single and not (isinstance(results, tuple) and len(tensors_of(results)) == len(results)):
            return  # a truth value, or lists of tensors
        out = [torch.full_like(result, 7) for result in ([results] if single else results)]
        with memory, suppress(RuntimeError, TypeError):  # this variant of it takes none
            call(out=out[0] if single else tuple(out))
    assert memory.found <= declared() | UNSCALED


@pytest.mark.sweep
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.formatted_name)
def test_no_module_writes_uncounted_what_the_table_has_not(module: Any) -> None:
    memory = WatchedMemory()
    for _ in run_module(module, 40, lambda: memory):
        pass
    assert memory.found <= declared() | UNSCALED


FUSED = ["SGD(w, lr=0.1", "SGD(w, lr=0.1, momentum=0.9", "Adam(w, amsgrad=True", "AdamW(w", "Adagrad(w"]


@pytest.mark.parametrize("step", ["optimizer.step()", "optimizer.step(lambda: None)"])
@pytest.mark.parametrize("optimizer", FUSED)
def test_a_fused_step_wrote_the_parameters_that_have_a_gradient(optimizer: str, step: str) -> None:
    recording = recorded(f"""
    import torch
    w = [torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)]
    got, missed = w
    optimizer = torch.optim.{optimizer}, fused=True)
    (got * 2).sum().backward()
    {step}
    """)
    assert changes_of(recording, tensor_called(recording, "got"), Field.WRITTEN) == [(-1, 1)]
    assert changes_of(recording, tensor_called(recording, "missed"), Field.WRITTEN) == []
    if step == "optimizer.step()":
        _, row = op_named(recording, f"{optimizer.partition('(')[0]}.step")
        assert (row.kind, row.calls) == (OpKind.STEP, 1)


@pytest.mark.parametrize(("scale", "written"), [("1.0", [(-1, 1)]), ("float('inf')", [])])
def test_a_fused_step_that_grad_scaler_skipped_wrote_nothing(scale: str, written: list[tuple[int, int]]) -> None:
    recording = recorded(f"""
    import torch
    w = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.AdamW([w], fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale((w * {scale}).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    """)
    assert changes_of(recording, tensor_called(recording, "w"), Field.WRITTEN) == written


def test_a_device_is_not_asked_whether_it_skipped_the_step() -> None:
    assert took_place(torch.empty((), device="meta")) == MAYBE


def test_other_optimizers_write_nothing_past_the_counter() -> None:
    recording = recorded("""
    import torch
    w = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.AdamW([w], foreach=True)
    (w * 2).sum().backward()
    optimizer.step()
    """)
    assert Field.WRITTEN not in recording.changes.column("field")


def test_running_statistics_are_written_in_training_only() -> None:
    recording = recorded("""
    import torch
    norm = torch.nn.BatchNorm1d(3)
    x = torch.rand(4, 3)
    norm(x)
    norm.eval()(x)
    """)
    for name in STATISTICS:
        assert changes_of(recording, tensor_called(recording, f"norm.{name}"), Field.WRITTEN) == [(-1, 1)]


@pytest.mark.parametrize("momentum", [0, 0.0])
def test_with_a_momentum_of_zero_the_values_are_those_that_were_there(momentum: float) -> None:
    recording = recorded(f"""
    import torch
    norm = torch.nn.BatchNorm1d(3, momentum={momentum})
    before = norm.running_mean.clone()
    norm(torch.rand(4, 3))
    assert torch.equal(norm.running_mean, before)
    """)
    for name in STATISTICS:
        changes = changes_of(recording, tensor_called(recording, f"norm.{name}"), Field.WRITTEN)
        assert changes == [(-1, SAME_VALUES)]


def test_instance_norm_is_counted() -> None:
    norm = nn.InstanceNorm1d(3, track_running_stats=True)
    assert norm.running_mean is not None
    version = norm.running_mean._version
    with WatchedMemory() as memory:
        norm(torch.rand(2, 3, 4))
    assert not memory.found
    assert norm.running_mean._version == version + 1

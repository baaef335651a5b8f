"""Every operator and module that torch's own tests know, run on torch's own sample inputs.

An operator's samples are made anew for each run from the same seed; each variant of it (function, method, in place) is
run forward and, where supported, backward.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db

from gradscope.recorder.session import Recorder

from .sameness import recorder_for_tests

OPERATORS = sorted((op for op in op_db if op.supported_dtypes("cpu")), key=lambda op: op.formatted_name)
MODULES = sorted(module_db, key=lambda module: module.formatted_name)

_PREFERRED = (torch.float32, torch.complex64, torch.int64, torch.bool, torch.float16, torch.bfloat16, torch.float64)
WHOLE_SWEEP = 10_000
SAMPLES_OF_SPREAD = 3


@dataclass
class Trial:
    """One call of an operator or module: what went in, what came out, what it raised."""

    name: str
    inputs: list[torch.Tensor]
    outputs: list[torch.Tensor] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def dtype_of(operator: Any) -> torch.dtype:
    """float32 where the operator takes it, else the first of complex, integer and half types."""
    supported = operator.supported_dtypes("cpu")
    return next((dtype for dtype in _PREFERRED if dtype in supported), min(supported, key=str))


def tensors_of(value: Any) -> list[torch.Tensor]:
    """The tensors in nested tuples, lists and dicts, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors_of(item)]
    return []


Recording = Callable[[], contextlib.AbstractContextManager[Any]]


def run_operator(operator: Any, count: int, recording: Recording) -> Iterator[Trial]:
    """Run the first samples of an operator, each call within what ``recording`` makes.

    A trial is given before the next sample is made, which may share tensors with it and change them.
    """
    for kind, variant in _variants(operator):
        torch.manual_seed(11)
        dtype = dtype_of(operator)
        differentiable = operator.supports_autograd and (dtype.is_floating_point or dtype.is_complex)
        samples = operator.sample_inputs("cpu", dtype, requires_grad=differentiable)
        for number, sample in enumerate(samples):
            if number >= count:
                break
            # An in-place call is only allowed on what is no leaf that requires grad.
            first = _not_leaves(sample.input) if kind == "inplace" else sample.input
            inputs = [*tensors_of(sample.input), *tensors_of(sample.args), *tensors_of(sample.kwargs)]
            trial = Trial(f"{operator.formatted_name} {kind} {number}", inputs)
            if kind == "inplace":
                trial.inputs += tensors_of(first)
            torch.manual_seed(13)
            with recording():
                _call(trial, variant, first, sample)
            yield trial


def run_module(module: Any, count: int, recording: Recording) -> Iterator[Trial]:
    """Construct a module, run it forward and backward; in training and in evaluation."""
    dtype = torch.float32 if torch.float32 in module.dtypes else module.dtypes[0]
    for training in (True, False):
        torch.manual_seed(11)
        options = {"device": "cpu", "dtype": dtype, "requires_grad": True, "training": training}
        for number, sample in enumerate(module.module_inputs_func(module, **options)):
            if number >= count or sample.forward_input is None:
                break
            built, given = sample.constructor_input, sample.forward_input
            inputs = [*tensors_of(given.args), *tensors_of(given.kwargs)]
            trial = Trial(f"{module.formatted_name} training={training} {number}", inputs)
            torch.manual_seed(13)
            with recording():
                _call_module(trial, module, built, given, training)
            yield trial


def _variants(operator: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    yield "function", operator.get_op()
    for kind, variant in (("method", operator.get_method()), ("inplace", operator.get_inplace())):
        if variant is not None:
            yield kind, variant


def _not_leaves(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    return type(value)(_not_leaves(item) for item in value) if isinstance(value, (list, tuple)) else value


def _call(trial: Trial, variant: Callable[..., Any], first: Any, sample: Any) -> None:
    try:
        result = variant(first, *sample.args, **sample.kwargs)
        trial.outputs = tensors_of(result)
        processed = sample.output_process_fn_grad(result)
    except Exception as error:
        trial.errors.append(f"{type(error).__name__}: {error}")
        return
    _backward(trial, tensors_of(processed))


def _call_module(trial: Trial, module: Any, built: Any, given: Any, training: bool) -> None:
    try:
        made = module.module_cls(*built.args, **built.kwargs).train(training)
        trial.inputs += [*made.parameters(), *made.buffers()]
        trial.outputs = tensors_of(made(*given.args, **given.kwargs))
    except Exception as error:
        trial.errors.append(f"{type(error).__name__}: {error}")
        return
    _backward(trial, trial.outputs)


def _backward(trial: Trial, outputs: list[torch.Tensor]) -> None:
    roots = [tensor for tensor in outputs if tensor.requires_grad]
    if not roots:
        return
    try:
        torch.autograd.backward(roots, [torch.ones_like(root) for root in roots])
    except Exception as error:
        trial.errors.append(f"{type(error).__name__}: {error}")


def recorded(run: Callable[..., Iterator[Trial]], subject: Any, count: int) -> Iterator[tuple[Trial, Recorder]]:
    """Run with a recorder of its own around each call."""
    recorders: list[Recorder] = []

    @contextlib.contextmanager
    def recording() -> Iterator[None]:
        recorders.append(recorder_for_tests())
        with recorders[-1]:
            yield

    for trial in run(subject, count, recording):
        yield trial, recorders.pop()

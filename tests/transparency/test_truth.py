"""What a recording claims of the tensors of every operator and module is what torch itself says of them."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch

from gradscope.analysis.facts.program.states_after import State, StatesAfter
from gradscope.analysis.index import Index
from gradscope.recorder.session import Recorder
from gradscope.recording import NONE, Recording

from .operators import MODULES, OPERATORS, SAMPLES_OF_SPREAD, WHOLE_SWEEP, Trial, recorded, run_module, run_operator

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's samples use what is deprecated or experimental

EVERY = 12
"""One operator in so many is tried in the normal run."""


def rows_of(recorder: Recorder, tensors: list[torch.Tensor]) -> list[int]:
    """The recording's rows of tensors (NONE for one that it never saw), asked as a user's watch asks."""
    first = len(recorder.recording.watches)
    for tensor in tensors:
        recorder.observe_watch("tensor", __file__, 1, "", tensor, False)
    recorder.flush()
    return list(recorder.recording.watches.column("tensor")[first:])


def storage_address(tensor: torch.Tensor) -> int | None:
    """What tells the storage of a tensor from every other that is alive; None where it has none."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):
        return None


def leaves_by_torch(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The leaves that a gradient of the tensor would reach, by torch's ``next_functions``."""
    if tensor.grad_fn is None:
        return [tensor] if tensor.requires_grad else []
    found, visited, todo = [], {tensor.grad_fn}, [tensor.grad_fn]
    while todo:
        node = todo.pop()
        if hasattr(node, "variable"):
            found.append(node.variable)
        following = {after for after, _ in node.next_functions if after is not None} - visited
        visited |= following
        todo.extend(following)
    return found


def leaves_by_recording(recording: Recording, row: int, state: State) -> set[int]:
    """Rows of the leaves that are reached from a tensor over the recorded nodes and edges."""
    if state.node == NONE:
        return {row} if state.requires_grad else set()
    following: dict[int, list[int]] = {}
    for edge in recording.edges:
        following.setdefault(edge.node, []).append(edge.next)
    found, visited, todo = set(), {state.node, NONE}, [state.node]
    while todo:
        node = todo.pop()
        if recording.nodes[node].variable != NONE:
            found.add(recording.nodes[node].variable)
        todo += [after for after in following.get(node, []) if after not in visited]
        visited.update(todo)
    return found


def assert_true(trial: Trial, recorder: Recorder) -> None:
    """Compare what was recorded of a call's tensors with what torch says of them now."""
    recording = recorder.recording
    tensors = list({id(tensor): tensor for tensor in (*trial.inputs, *trial.outputs)}.values())
    rows = rows_of(recorder, tensors)
    missing = [tensor.shape for tensor in trial.outputs if rows[find(tensors, tensor)] == NONE]
    assert not missing, f"{trial.name}: an output was not seen"
    states = StatesAfter(Index(recording), rows)
    seen = [
        (tensor, row, states.after(row, recorder.op_count))
        for tensor, row in zip(tensors, rows, strict=True)
        if row >= 0
    ]
    for tensor, row, state in seen:
        assert claims(recording, state) == facts(tensor), f"{trial.name}: row {row}"
        leaves = set(rows_of(recorder, leaves_by_torch(tensor)))
        assert leaves_by_recording(recording, row, state) == leaves, f"{trial.name}: leaves reached from row {row}"
    for (one, _, first), (other, _, second) in combinations(seen, 2):
        address = storage_address(one)
        shared = address is not None and address == storage_address(other)
        assert (first.storage == second.storage != NONE) == shared, f"{trial.name}: storage"


def find(tensors: list[torch.Tensor], wanted: torch.Tensor) -> int:
    """Position of a tensor, by identity."""
    return next(position for position, tensor in enumerate(tensors) if tensor is wanted)


def claims(recording: Recording, state: State) -> dict[str, Any]:
    """What the recording says of a tensor."""
    grad_fn = None if state.node == NONE else recording.text(recording.nodes[state.node].name)
    return {
        "requires_grad": state.requires_grad,
        "leaf": state.is_leaf,
        "grad_fn": grad_fn,
        "version": state.version,
        "has storage": state.storage != NONE,
    }


def facts(tensor: torch.Tensor) -> dict[str, Any]:
    """What torch says of it."""
    return {
        "requires_grad": tensor.requires_grad,
        "leaf": tensor.is_leaf,
        "grad_fn": None if tensor.grad_fn is None else type(tensor.grad_fn).__name__,
        "version": None if tensor.is_inference() else tensor._version,
        "has storage": storage_address(tensor) is not None,
    }


def assert_within_schema(operator: Any, trial: Trial, recorder: Recorder) -> None:
    """Assert that an output is recorded on the storage of an input only where the operator's schema says so."""
    name = f"aten::{operator.aten_name}"
    schemas = [schema for schema in torch._C._jit_get_schemas_for_operator(name) if not has_out(schema)]
    schemas = [schema for schema in schemas if is_an_operator(schema)]
    if not schemas or any(may_alias(schema) for schema in schemas):
        return
    tensors = recorder.recording.tensors
    given, made = set(rows_of(recorder, trial.inputs)) - {NONE}, set(rows_of(recorder, trial.outputs))
    inputs = {tensors[row].storage for row in given} - {NONE}
    outputs = {tensors[row].storage for row in made - given}  # an operator may return what it was given
    assert not inputs & outputs, f"{trial.name} shares storage"


def may_alias(schema: Any) -> bool:
    """Whether the schema says so; one of an operator that is composed of others says nothing about it."""
    if "unsafe" in schema.name:  # named so because its schema hides what it does
        return True
    composed = torch._C._dispatch_has_kernel_for_dispatch_key(full_name(schema), "CompositeImplicitAutograd")
    return composed or any(returned.alias_info is not None for returned in schema.returns)


def is_an_operator(schema: Any) -> bool:
    """Whether tensors are dispatched to it; TorchScript has some of its own, of numbers and lists."""
    return bool(torch._C._dispatch_has_kernel(full_name(schema)))


def full_name(schema: Any) -> str:
    """The name with the overload's."""
    return f"{schema.name}.{schema.overload_name}" if schema.overload_name else str(schema.name)


def has_out(schema: Any) -> bool:
    """Whether it is the overload that writes to ``out=``."""
    return any(argument.is_out for argument in schema.arguments)


def assert_operator_true(operator: Any, count: int) -> None:
    """Compare with torch, and with the operator's schema, what was recorded of its calls."""
    for trial, recorder in recorded(run_operator, operator, count):
        assert_true(trial, recorder)
        if " function " in trial.name:
            assert_within_schema(operator, trial, recorder)


@pytest.mark.parametrize("operator", OPERATORS[::EVERY], ids=lambda operator: operator.formatted_name)
def test_recording_of_operator_is_true(operator):
    assert_operator_true(operator, SAMPLES_OF_SPREAD)


@pytest.mark.sweep
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.formatted_name)
def test_recording_of_every_operator_is_true(operator):
    assert_operator_true(operator, WHOLE_SWEEP)


@pytest.mark.parametrize("module", MODULES[:: EVERY // 2], ids=lambda module: module.formatted_name)
def test_recording_of_module_is_true(module):
    for trial, recorder in recorded(run_module, module, 1):
        assert_true(trial, recorder)


@pytest.mark.sweep
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.formatted_name)
def test_recording_of_every_module_is_true(module):
    for trial, recorder in recorded(run_module, module, WHOLE_SWEEP):
        assert_true(trial, recorder)

"""What a custom Function's backward returned beside autograd's own derivative of what its forward computed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C import DisableTorchFunction
from torch.autograd import Variable

from gradscope.recorder.state.kept_forwards import KeptForward, Slot
from gradscope.recorder.state.tensors_in import tensors_in
from gradscope.recorder.tape import Tape
from gradscope.recorder.torch_internals.capabilities import innermost_saved_hooks
from gradscope.recorder.torch_internals.differentiable_functions import Dependence
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind

_TOLERANCE = 0.05
"""Relative difference of two derivatives that is none: an approximation, a small number against division by zero."""
_SHARE = 0.2
"""Of its elements that differ, at least: an exception at few of them (a pole) is meant."""
_ALIKE = 1e-3
"""Relative difference of numbers that are the same but for rounding."""


class Gap(NamedTuple):
    """An argument whose gradient is another than autograd's."""

    position: int
    least: float
    """What it is times autograd's, at the least."""
    most: float


def note_derivatives(kept: KeptForward, tape: Tape, thread: int) -> bool:
    """Record what differs, of an application whose backward has returned; whether it could be compared."""
    own = _own_derivatives(kept) if _is_judged(kept) and innermost_saved_hooks(True) is None else {}
    gaps = list(_gaps(kept, own))
    if gaps:
        detail = {"node": kept.function, "arguments": [gap._asdict() for gap in gaps]}
        tape.add_event(int(EventKind.DERIVATIVE), NONE, thread, NONE, json.dumps(detail), [])
    return bool(own)


def _is_judged(kept: KeptForward) -> bool:
    """Whether a backward can be wrong: whoever scales or reverses a gradient, or sends it back by weights that forward
    was given for that alone, means it.
    """
    all_taken = set(kept.arguments.values()) <= kept.taken
    return Dependence.CURVED in kept.kinds or (Dependence.BILINEAR in kept.kinds and all_taken)


def _gaps(kept: KeptForward, own: dict[int, Tensor]) -> Iterator[Gap]:
    given = [one.double() for one in kept.given if one is not None]
    for position, derivative in own.items():
        gradient = kept.returned[position] if position < len(kept.returned) else None
        if gradient is not None and gradient.shape == derivative.shape:
            gap = _gap(position, gradient.double(), derivative.double(), given)
            if gap is not None:
                yield gap


def _own_derivatives(kept: KeptForward) -> dict[int, Tensor]:
    """Autograd's derivatives for arguments, by position; none where the calls gave other values than in forward."""
    if len(kept.outputs) != len(kept.given):
        return {}
    try:
        with torch.enable_grad(), DisableTorchFunction():
            own, exact = (_differentiated(kept, precision) for precision in (Tensor.clone, Tensor.double))
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
        return {}  # (they cannot be called on copies)
    if own.keys() != exact.keys() or not all(_is_near(one, exact[position]) for position, one in own.items()):
        return {}  # (rounding makes the most of it)
    return exact


def _is_near(derivative: Tensor, exact: Tensor) -> bool:
    return bool((derivative.double() - exact).norm() <= _ALIKE * exact.norm())


def _differentiated(kept: KeptForward, precision: Callable[[Tensor], Tensor]) -> dict[int, Tensor]:
    tensors = {slot: precision(copy).detach().requires_grad_() for slot, copy in kept.copies.items()}
    leaves = {position: tensors[slot] for position, slot in kept.arguments.items()}
    for step in kept.steps:
        args, kwargs = (_filled(given, tensors, precision) for given in (step.args, step.kwargs))
        result = step.function(*args, **kwargs)
        tensors.update(zip(step.results, tensors_in(result), strict=True))
    asked = []
    for number, (slot, value) in kept.outputs.items():
        if not torch.allclose(tensors[slot].detach().double(), value.double(), rtol=1e-3, atol=1e-6):
            return {}
        gradient = kept.given[number]
        if gradient is not None and tensors[slot].requires_grad:
            asked.append((tensors[slot], precision(gradient)))
    if not asked:
        return {}
    outputs, gradients = zip(*asked, strict=True)
    # (not by torch.autograd.grad, which the program may have replaced, and which is seen as a pass of the program's)
    found = Variable._execution_engine.run_backward(
        outputs, gradients, False, False, tuple(leaves.values()), allow_unreachable=True, accumulate_grad=False
    )
    return {position: one for position, one in zip(leaves, found, strict=True) if one is not None}


def _filled(value: Any, tensors: dict[int, Tensor], precision: Callable[[Tensor], Tensor]) -> Any:
    kind = type(value)
    if kind is Slot:
        return tensors[value.number]
    if isinstance(value, Tensor):
        return precision(value) if value.is_floating_point() else value
    if kind is tuple or kind is list:
        return kind(_filled(one, tensors, precision) for one in value)
    if kind is dict:
        return {key: _filled(one, tensors, precision) for key, one in value.items()}
    return value


def _gap(position: int, gradient: Tensor, own: Tensor, given: list[Tensor]) -> Gap | None:
    """How far a gradient is from autograd's own; None where it is near, or is what people mean to return instead."""
    size = own.abs().max().item() if own.numel() else 0.0
    if not size or not gradient.abs().max().item() or not (gradient.isfinite().all() and own.isfinite().all()):
        return None
    difference = (gradient - own).abs()
    apart = difference > _TOLERANCE * own.abs() + _ALIKE * size
    if difference.norm() <= _TOLERANCE * own.norm() or apart.double().mean() < _SHARE:
        return None
    other = gradient[apart].abs()
    is_masked = not other.max().item()
    is_clipped = other.numel() > 1 and (other.max() - other.min()).item() <= _ALIKE * other.max().item()
    if is_masked or (is_clipped and own[apart].abs().std().item() > _ALIKE * size):
        return None
    if any(_is_multiple(gradient, one) for one in given):
        return None  # (passed on as it came: a straight-through estimate)
    counted = own.abs() > _ALIKE * size
    ratios = gradient[counted] / own[counted]
    return Gap(position, ratios.min().item(), ratios.max().item())


def _is_multiple(gradient: Tensor, incoming: Tensor) -> bool:
    if gradient.shape != incoming.shape:
        return False
    at = incoming.abs() > _ALIKE * incoming.abs().max()
    if not at.any():
        return False
    factors = gradient[at] / incoming[at]
    return bool((factors.max() - factors.min()).abs() <= _ALIKE * factors.abs().max())

"""Whether steps of torch's own optimizers change parameters in half precision: small ones may be rounded away.

A part of each such parameter is copied before the steps 1 to 4, 8, 16 … and compared after them, until a step changes
a good share of the values that have a gradient, and none is left that is as it was before the first of them.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.compiler import is_dynamo_compiling
from torch.optim import Optimizer

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note
from gradscope.recorder.patches.optimizer_groups import number_of
from gradscope.recorder.state.tensors_in import PLAIN, grad_of
from gradscope.recorder.torch_internals.capabilities import dispatch_modes
from gradscope.recording.rows import EventKind

_ROUNDED_AWAY = int(EventKind.ROUNDED_AWAY)
STEPS = 3
"""Steps that were looked at and changed next to nothing from which on it is noted."""
SHARE = 0.25
"""Of the values with a gradient: where a step changes more of them, most of what is learned is there."""
MOST = 1024
"""Parameters of one optimizer that are looked at: where it has more, none is."""
ELEMENTS = 1 << 12
"""The first elements of a parameter, which are compared."""
STUCK = 4
"""Steps that were looked at and left a parameter as it was from which on that is noted of it alone."""
VALUES = 16
"""The least number of values that were compared for that, of all those steps together."""
FULL = 2
"""Steps that were looked at under a good part of the rate that a scheduler leads to, from which on its warm-up is no
matter."""
NOISE = 1 / 8
"""Of the middle one of the parameters' gradients: one that is smaller may be nothing but the rounding of a zero."""
_HALF = (torch.float16, torch.bfloat16)


class _Looks:
    """What is known of an optimizer's steps."""

    __slots__ = ("copies", "firsts", "full", "is_moving", "is_over", "most", "rate", "steps", "stuck", "unmoved")

    def __init__(self) -> None:
        self.steps = 0
        self.unmoved = 0
        """Steps that were looked at, all of which changed no more than the share."""
        self.most: tuple[int, int] = (0, 1)
        """Of these the one that changed most: how many values, of how many that had a gradient."""
        self.rate = 0.0
        """The highest rate of a step that was looked at."""
        self.full = 0
        """Such steps at which each group had at least half of the rate that its scheduler begins with or leads to."""
        self.copies: list[tuple[Any, Any, Any]] = []
        """Parameters, what they held before the step that is under way, and where they have a gradient."""
        self.is_moving = False
        """A step changed a good share of the values."""
        self.firsts: dict[int, tuple[Any, int]] = {}
        """By identity, of each parameter that is as it was: its values then, and the looks at it since."""
        self.stuck = 0
        """Parameters that were noted as such at the last look."""
        self.is_over = False
        """It is known that steps change something, or nothing will be."""


_known: WeakKeyDictionary[Optimizer, _Looks] = WeakKeyDictionary()


def forget() -> None:
    """Look at each optimizer anew: another recording begins."""
    _known.clear()


def before_step(optimizer: Optimizer, *_: Any) -> None:
    """Copy what a step may change: a hook before every optimizer's step."""
    if is_dynamo_compiling():
        return
    looks = _known.get(optimizer)
    if looks is None:
        looks = _known[optimizer] = _Looks()
        looks.is_over = not type(optimizer).__module__.startswith("torch.optim")
    if looks.is_over:
        return
    looks.steps += 1
    looks.copies = []
    is_due = looks.steps <= STEPS or not looks.steps & (looks.steps - 1)
    if is_due and is_ours_on_top() and not dispatch_modes():
        note("step", lambda _: _copy(optimizer, looks))


def after_step(optimizer: Optimizer, *_: Any) -> None:
    """Compare: a hook after every optimizer's step, when that has been written down."""
    looks = None if is_dynamo_compiling() else _known.get(optimizer)
    if looks is None or not looks.copies:
        return
    frame, copies, looks.copies = sys._getframe(1), looks.copies, []
    if not dispatch_modes() and _has_a_rate(optimizer):
        note("step", lambda mode: _compare(optimizer, looks, copies, mode, frame))


def _copy(optimizer: Optimizer, looks: _Looks) -> None:
    held = _in_half_precision(optimizer)
    looks.is_over = not 0 < len(held) <= MOST
    if not looks.is_over and not _is_capturing(held):
        with torch.no_grad():
            looks.copies = [
                (one, _first_of(one).clone(), _first_of(grad_of(one)) != 0) for one in held if _has_gradient(one)
            ]


def _compare(
    optimizer: Optimizer, looks: _Looks, copies: list[tuple[Any, Any, Any]], mode: RecorderMode, frame: FrameType
) -> None:
    with torch.no_grad():
        moved = sum(int(((_first_of(one) != before) & given).sum()) for one, before, given in copies)
        of = sum(int(given.sum()) for _, _, given in copies)
        stuck = _stuck(looks, copies)
    if not of:
        return
    was_full, highest = looks.full >= FULL, looks.rate
    looks.rate = max(looks.rate, *(float(group["lr"]) for group in optimizer.param_groups))
    looks.full += all(map(_is_at_full_rate, optimizer.param_groups))

    def noted(detail: dict[str, Any], held: list[Any]) -> None:
        whole = all(one.numel() <= ELEMENTS for one in held)
        detail |= {"whole": whole, "moved": looks.most[0], "of": looks.most[1], "rate": looks.rate, "full": looks.full}
        mode.observer.observe_event(_ROUNDED_AWAY, frame, mode.thread, number_of(optimizer), detail, held)

    is_lost = moved <= SHARE * of
    if not looks.is_moving:
        looks.unmoved += is_lost
        looks.most = max(looks.most, (moved, of), key=lambda counts: counts[0] / counts[1])
        is_due = looks.unmoved == STEPS or (looks.full >= FULL and (looks.rate > highest or not was_full))
        if looks.unmoved >= STEPS and (is_due or not is_lost):
            noted({"lost": is_lost, "looked": looks.unmoved}, [one for one, _, _ in copies])
    looks.is_moving |= not is_lost
    if stuck or looks.stuck:
        noted({"stuck": min((looks.firsts[id(one)][1] for one in stuck), default=0)}, stuck)
    looks.stuck = len(stuck)
    looks.is_over = looks.is_moving and not looks.firsts


def _stuck(looks: _Looks, copies: list[tuple[Any, Any, Any]]) -> list[Any]:
    """Parameters that have been as they are at a number of looks, though most of their values have a gradient."""
    is_first, kept = looks.steps == 1, dict[int, tuple[Any, int]]()
    for one, before, given in copies:
        first, times = looks.firsts.get(id(one), (before, 0))
        is_one = (is_first or times) and first.shape == before.shape and 2 * int(given.sum()) >= given.numel()
        if is_one and torch.equal(first, _first_of(one)):
            kept[id(one)] = (first, times + 1)
    looks.firsts = kept
    sizes = {id(one): float(_first_of(grad_of(one)).float().square().mean()) for one, _, _ in copies if kept}
    least = NOISE**2 * sorted(sizes.values())[len(sizes) // 2] if sizes else 0.0
    return [
        one
        for one, before, _ in copies
        if (times := kept.get(id(one), (None, 0))[1]) >= STUCK
        and times * before.numel() >= VALUES
        and sizes[id(one)] >= least
    ]


def _in_half_precision(optimizer: Optimizer) -> list[Any]:
    return [
        one
        for group in optimizer.param_groups
        for one in group["params"]
        if type(one) in PLAIN and one.dtype in _HALF and one.is_contiguous() and not one.is_meta and one.numel()
    ]


def _first_of(parameter: Any) -> Any:
    return parameter.detach().reshape(-1)[:ELEMENTS]


def _has_gradient(parameter: Any) -> bool:
    gradient = grad_of(parameter)
    is_dense = type(gradient) in PLAIN and gradient.layout == torch.strided
    return is_dense and bool(gradient.count_nonzero())


def _has_a_rate(optimizer: Optimizer) -> bool:
    """Whether all groups have a rate, and no scaler lets a step pass without effect."""
    rates = [group.get("lr") for group in optimizer.param_groups]
    return not hasattr(optimizer, "found_inf") and all(type(rate) is float and rate > 0 for rate in rates)


def _is_at_full_rate(group: dict[str, Any]) -> bool:
    """Whether a scheduler sets a group's rate, and has it at half of the full one or more."""
    full = [group[name] for name in ("initial_lr", "max_lr") if type(group.get(name)) in (int, float)]
    return "initial_lr" in group and bool(full) and 2 * group["lr"] >= max(full)


def _is_capturing(tensors: list[Any]) -> bool:
    """Whether a graph of a device is being captured, while which nothing may be read."""
    return any(one.is_cuda for one in tensors) and torch.cuda.is_current_stream_capturing()

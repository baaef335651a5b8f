"""An optimizer's step as one op: what it updated, and the state that it allocated.

torch's own optimizers run thousands of small ops in one step. The mode steps aside while one runs (through torch's
public step hooks) and the parameters' versions are compared around it. A step with a closure, with hooks of the user's,
or of the user's own optimizer runs user code, and is recorded op by op.
"""

from __future__ import annotations

import sys
from threading import get_ident
from typing import Any

import torch
from torch._C import DisableTorchFunction
from torch.compiler import is_dynamo_compiling
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import uppermost
from gradscope.recorder.calls.observer import Observer
from gradscope.recorder.patches import learning_rates, replica_values, rounded_steps, state_order, stray_groups
from gradscope.recorder.patches.optimizer_groups import number_of
from gradscope.recorder.torch_internals.uncounted_writes import updated_by_step
from gradscope.recording.rows import EventKind

_STEP = int(EventKind.STEP)


class _Arguments(tuple[Any, ...]):
    """The arguments of ``step``, which live as long as its frame: a step that raises skips the hook after it."""

    pause: Pause

    def __del__(self) -> None:
        self.pause.end()


class Pause:
    """The mode, taken off the stack of its thread until the step is over, however it ends."""

    def __init__(self, mode: RecorderMode) -> None:
        self._mode: RecorderMode | None = mode
        self._thread = get_ident()
        torch._C._pop_torch_function_stack()

    def end(self) -> None:
        """Put the mode back; once."""
        if self._mode is not None and get_ident() == self._thread:
            torch._C._push_on_torch_function_stack(self._mode)
            self._mode = None


class OptimizerSteps:
    """Watches the steps of torch's own optimizers while it is installed."""

    def __init__(self, observer: Observer, modes: dict[int, RecorderMode]) -> None:
        self._observer = observer
        self._modes = modes
        self._under_way: dict[int, tuple[Pause, list[tuple[Any, int]]]] = {}
        self._handles: list[Any] = []

    def install(self) -> None:
        """Register the step hooks."""
        learning_rates.forget()
        replica_values.forget()
        rounded_steps.forget()
        state_order.forget()
        self._handles = [
            register_optimizer_step_pre_hook(learning_rates.before_step),
            register_optimizer_step_pre_hook(replica_values.before_step),
            register_optimizer_step_pre_hook(stray_groups.before_step),
            register_optimizer_step_pre_hook(rounded_steps.before_step),
            register_optimizer_step_pre_hook(self._before),
            register_optimizer_step_post_hook(self._after),
            register_optimizer_step_post_hook(rounded_steps.after_step),
        ]

    def remove(self) -> None:
        """Take the step hooks away, and end what a raising step left under way."""
        for handle in self._handles:
            handle.remove()
        stray_groups.forget()
        for pause, _ in self._under_way.values():
            pause.end()
        self._under_way.clear()

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        if is_dynamo_compiling():
            return None
        thread = get_ident()
        mode = self._modes.get(thread)
        if mode is None or uppermost() is not mode:
            return None
        if len(args) > 1 or kwargs or not _runs_only_torch(optimizer):
            self._note_begun(optimizer, mode)
            return None
        try:
            groups = [] if self._observer.full else optimizer.param_groups
            parameters = [parameter for group in groups for parameter in group["params"]]
            with DisableTorchFunction():  # else a mode of the program's below ours would see us look
                versions = self._observer.many.versions(parameters)
        except Exception:
            self._observer.fault("optimizer step")
            return None
        arguments = _Arguments(args)
        arguments.pause = Pause(mode)
        self._under_way[thread] = (arguments.pause, versions)
        return arguments, kwargs

    def _note_begun(self, optimizer: Optimizer, mode: RecorderMode) -> None:
        if mode.muted or self._observer.muted or self._observer.full:
            return
        try:
            frame = sys._getframe(2)
            self._observer.observe_event(_STEP, frame, mode.thread, number_of(optimizer), {}, ())
        except Exception:
            self._observer.fault("optimizer step")

    def _after(self, optimizer: Optimizer, *_: Any) -> None:
        if is_dynamo_compiling():
            return
        under_way = self._under_way.pop(get_ident(), None)
        if under_way is None:
            return
        pause, versions = under_way
        try:
            thread = self._modes[get_ident()].thread
            with DisableTorchFunction():
                written = list(updated_by_step(optimizer))
                states = optimizer.state.values()
                self._observer.observe_step(type(optimizer).__name__, versions, states, thread, written)
        except Exception:
            self._observer.fault("optimizer step")
        pause.end()


def _runs_only_torch(optimizer: Optimizer) -> bool:
    hooked = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    return type(optimizer).__module__.startswith("torch.optim") and not hooked

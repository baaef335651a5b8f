"""What is noted at each backward pass of a run: its losses, its time, the gradients that it left; and the last pass."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from time import perf_counter_ns
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor
from torch._C import DisableTorchFunction
from torch.compiler import is_dynamo_compiling

from gradscope.experiments.edited.value_files import ValueWriter
from gradscope.frames.replacements import Replacement
from gradscope.frames.tracebacks import CALL_NAME
from gradscope.frames.whose_file import is_gradscope
from gradscope.recorder.state.tensors_in import grad_of
from gradscope.recording.kept_values import KeptValue, SeenLeaf, SeenPass

LOOKED_AT = 8
"""Passes after which every gradient is kept; of the later ones the losses are noted alone."""

_ENGINE = "_engine_run_backward"
_TORCH = os.path.dirname(torch.__file__) + os.sep  # noqa: PTH120 - as code objects have it


class PassWatch:
    """Notes the backward passes of one run. A pass inside a pass (of a reentrant checkpoint) is a part of it.

    Args:
        values: Keeps the gradients; None: losses and gradients are not looked at, the passes take their own time.
        leaves: The leaves that there are, by row.
        stop_after: Passes after which the run is ended, as by ``os._exit(0)``; 0: it comes to its own end.
        ending: Called before that.
    """

    def __init__(
        self,
        values: ValueWriter | None,
        leaves: Callable[[], Mapping[int, Any]],
        stop_after: int,
        ending: Callable[[], None],
    ) -> None:
        self.passes: list[SeenPass] = []
        self.count = 0
        self.backward_ns = 0
        self._values = values
        self._leaves = leaves
        self._stop_after = stop_after
        self._ending = ending
        self._is_inside = False

    def install(self) -> None:
        """From here on; it ends with the process."""
        Replacement(torch.autograd, _ENGINE, self._watched)

    def last_leaves(self) -> dict[int, SeenLeaf]:
        """The leaves as they are now."""
        if self._values is None:
            return {}
        with DisableTorchFunction():
            return {row: self._leaf(tensor, self._values) for row, tensor in self._leaves().items()}

    def _leaf(self, tensor: Any, values: ValueWriter) -> SeenLeaf:
        gradient = grad_of(tensor)
        return SeenLeaf(values.keep(tensor), values.keep(gradient) if isinstance(gradient, Tensor) else None)

    def _watched(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def watching(roots: Any, *args: Any, **kwargs: Any) -> Any:
            if is_dynamo_compiling() or self._is_inside:
                return run(roots, *args, **kwargs)
            self._is_inside = True
            losses = self._losses(roots)
            wait()
            started = perf_counter_ns()
            try:
                result = run(roots, *args, **kwargs)
                wait()
            finally:  # (a pass that raises is not counted: it is no pass of the other runs)
                self.backward_ns += perf_counter_ns() - started
                self._is_inside = False
            self._note(losses)
            return result

        return watching

    def _losses(self, roots: Any) -> tuple[float, ...]:
        if self._values is None:
            return ()
        with DisableTorchFunction():
            single = [root.detach() for root in roots if isinstance(root, Tensor) and root.numel() == 1]
            return tuple(float(root) for root in single if not root.is_complex() and root.device.type != "meta")

    def _note(self, losses: tuple[float, ...]) -> None:
        self.count += 1
        if self._values is not None:
            gradients: dict[int, KeptValue] = {}
            is_looked_at = self.count <= LOOKED_AT
            if is_looked_at:
                with DisableTorchFunction():
                    found = {row: grad_of(tensor) for row, tensor in self._leaves().items()}
                    kept = {row: self._values.keep(one) for row, one in found.items() if isinstance(one, Tensor)}
                gradients = {row: one for row, one in kept.items() if one is not None}
            self.passes.append(SeenPass(losses, gradients, is_looked_at))
        if self.count == self._stop_after:
            self._stop_behind(sys._getframe(1))

    def _stop_behind(self, frame: FrameType | None) -> None:
        """End the run when torch returns to its caller: by then the recorder has written the whole pass."""
        while frame is not None and _is_on_the_way(frame.f_code):
            frame = frame.f_back
        caller = frame

        def returning(frame: FrameType, event: str, _: Any) -> None:
            if event == "return" and frame.f_back is caller:
                sys.setprofile(None)
                self._ending()
                os._exit(0)

        sys.setprofile(returning)


def wait() -> None:
    """Let work on a GPU come to its end before a clock is read."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


def _is_on_the_way(code: CodeType) -> bool:
    """Whether it lies between the program's call and the engine."""
    return code.co_filename.startswith(_TORCH) or is_gradscope(code.co_filename) or code.co_name == CALL_NAME

"""What recording is compared with: tools that show something of autograd, and the least that each instrument costs."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from gradscope.recorder.session import Recorder

Context = Callable[[], AbstractContextManager[object]]


class NoFunctionMode(TorchFunctionMode):
    """Passes every call on: the least that any tool built on a function mode costs."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class NoDispatchMode(TorchDispatchMode):
    """Passes every operator on: the least that any tool built on a dispatch mode costs."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def function_mode_and_node_hook() -> Iterator[None]:
    """What being told of each new node costs (torch 2.15 on), in place of walking to it."""
    with NoFunctionMode(), torch.autograd.graph.node_creation_hook(lambda node: None):
        yield


def gradscope() -> AbstractContextManager[object]:
    """Full recording, the workloads' file being the user's code."""
    return Recorder(is_user=lambda filename: filename.endswith("workloads.py"))


def anomaly_mode() -> AbstractContextManager[object]:
    """torch's anomaly detection, as shipped."""
    return torch.autograd.detect_anomaly(check_nan=True)


def profiler() -> AbstractContextManager[object]:
    """torch's profiler with memory, on the CPU."""
    return torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)


def competitors() -> dict[str, Context]:
    """By name, everything that this torch has."""
    found: dict[str, Context] = {
        "no-op function mode": NoFunctionMode,
        "gradscope": gradscope,
        "no-op dispatch mode": NoDispatchMode,
        "anomaly mode": anomaly_mode,
        "profiler with memory": profiler,
    }
    if hasattr(torch.autograd.graph, "node_creation_hook"):
        found["no-op function mode, no-op node hook"] = function_mode_and_node_hook
    if find_spec("torch.utils._debug_mode") is not None:
        from torch.utils._debug_mode import DebugMode

        found["DebugMode"] = DebugMode
    return found


@contextlib.contextmanager
def quiet() -> Any:
    """Keeps the competitors' remarks about themselves off the terminal."""
    with contextlib.redirect_stderr(io.StringIO()):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield

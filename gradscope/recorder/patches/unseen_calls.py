"""Functions of torch's that function modes are not told of: handed to them here as the others are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch.compiler import is_dynamo_compiling
from torch.overrides import handle_torch_function

from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.inside_passes import begin_pass, end_pass


def set_seen(set_: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for ``Tensor.set_`` while a recorder is at work."""

    def sets(*args: Any, **kwargs: Any) -> Any:
        if is_dynamo_compiling() or not is_ours_on_top():
            return set_(*args, **kwargs)
        return handle_torch_function(sets, args, *args, **kwargs)

    return _called("set_", "Tensor.set_", None, sets)


def edges_seen(run_backward: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for the engine's start: a pass that is asked for by gradient edges alone reaches it unannounced.

    What the program does inside any pass is seen from here on.
    """

    def begins(*args: Any, **kwargs: Any) -> Any:
        if is_dynamo_compiling():
            return run_backward(*args, **kwargs)
        if kwargs.get("accumulate_grad") is True and is_ours_on_top():
            return handle_torch_function(begins, (), *args, **kwargs)
        under_way = begin_pass(sys._getframe(1), args[0] if args else ())
        try:
            return run_backward(*args, **kwargs)
        finally:
            end_pass(under_way)

    return _called("backward", "backward", "torch.autograd", begins)


def backward_hooks_seen(apply: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for the function that puts a module's backward hooks into the graph: its result has a node at once.

    The views that its forward makes, without grad mode, would be taken for the module's outputs.
    """

    def applies(*args: Any) -> Any:
        if is_dynamo_compiling() or not is_ours_on_top():
            return apply(*args)
        return handle_torch_function(applies, args, *args)

    return _called("apply", "BackwardHookFunction.apply", None, applies)


def _called(name: str, qualified: str, module: str | None, function: Any) -> Callable[..., Any]:
    """A function under the name by which it is known."""
    function.__name__, function.__qualname__, function.__module__ = name, qualified, module
    described: Callable[..., Any] = function
    return described

"""Calls of ``torch.func.functional_call`` with keys that are no names of the module: torch leaves these out.

The keys of a call are compared with those of the call before; only where they are others each is looked for, along its
dots. What a module has is asked for only where a key was not found.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any

from torch import Tensor, nn
from torch._C import _functorch
from torch.compiler import is_dynamo_compiling

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note
from gradscope.recording.rows import EventKind

NAME = "_functional_call"
_LEFT_OUT_KEYS = int(EventKind.LEFT_OUT_KEYS)
_LIMIT = 16
"""Calls of one module that are noted."""
_SHOWN = 3
_known: dict[int, tuple[weakref.ref[nn.Module], tuple[str, ...]]] = {}
"""For each module by its ``id``: itself, and the keys of a call that were all names of it."""
_noted: Counter[int] = Counter()


def reported(call: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for ``torch.nn.utils.stateless._functional_call`` while a recorder is at work."""

    @wraps(call)
    def calls(*args: Any, **kwargs: Any) -> Any:
        is_lax = not kwargs.get("strict")  # (torch itself raises otherwise)
        if is_lax and len(args) > 1 and type(args[1]) is dict and not is_dynamo_compiling() and is_ours_on_top():
            module, values = args[:2]
            if isinstance(module, nn.Module) and not _are_names(module, values):
                frame = sys._getframe(1)
                note("functional_call", lambda mode: _observe(mode, module, values, frame))
        return call(*args, **kwargs)

    return calls


def forget() -> None:
    """Look at each module anew: another recording begins."""
    _known.clear()
    _noted.clear()


def _are_names(module: nn.Module, values: dict[str, Any]) -> bool:
    keys, held = tuple(values), _known.get(id(module))
    if held is not None and held[0]() is module and held[1] == keys:
        return True
    if not all(isinstance(key, str) and _is_name(module, key) for key in keys):
        return False
    _known[id(module)] = weakref.ref(module), keys
    return True


def _is_name(module: nn.Module, key: str) -> bool:
    *path, name = key.split(".")
    inner: Any = module
    for part in path:
        inner = vars(inner).get("_modules", {}).get(part)
        if not isinstance(inner, nn.Module):
            return False
    tables = vars(inner)
    return name in tables.get("_parameters", ()) or name in tables.get("_buffers", ()) or hasattr(inner, name)


def _observe(mode: RecorderMode, module: nn.Module, values: dict[str, Any], frame: FrameType) -> None:
    """Note a call whose left out tensors have the shapes of parameters that it gives no value for."""
    if _noted[id(module)] >= _LIMIT:
        return
    left_out = {key: one for key, one in values.items() if isinstance(one, Tensor) and not _is_name(module, str(key))}
    own = {name: one for name, one in module.named_parameters() if name not in values}
    given, wanted = (Counter(tuple(one.shape) for one in some.values()) for some in (left_out, own))
    if not given or not wanted or not (given <= wanted or wanted <= given):
        return
    _noted[id(module)] += 1
    detail = {
        "module": type(module).__name__,
        "keys": [str(key) for key in left_out][:_SHOWN],
        "names": list(own)[:_SHOWN],
        "count": len(left_out),
        "of": len(values),
    }
    is_plain = _functorch.peek_interpreter_stack() is None  # (within vmap they are no tensors that the program has)
    tensors = [*left_out.values()] if is_plain else []
    mode.observer.observe_event(_LEFT_OUT_KEYS, frame, mode.thread, 0, detail, tensors)

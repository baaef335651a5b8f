"""What ``gradscope doctor`` says about torch and the recorder, as data."""

from __future__ import annotations

from typing import Any

import torch

from gradscope.recorder.calls.core import choice
from gradscope.recorder.doctor.selftest import Check, self_test
from gradscope.recorder.patches.stack_limit import ROOM, raise_stack_limit
from gradscope.recorder.torch_internals.capabilities import has_node_creation_hook
from gradscope.recorder.torch_internals.entry_points import ENTRY_POINTS

MECHANISM = "function mode"
REASON = (
    "one TorchFunctionMode a thread, and a walk from each output's grad_fn to the nodes that are new: it also sees "
    "requires_grad_(), .data and no_grad, and changes nothing that the program can notice"
)
WITH_HOOK = "in this torch, not used: the walk finds the nodes that can be reached, in the program's threads as well"
WITHOUT_HOOK = "not in this torch; not needed"


def diagnose() -> dict[str, Any]:
    """Ask torch, raise the stack's limit as a recording does, and run the self-test; JSON types only."""
    before = _stack_limits()
    raise_stack_limit()
    return {
        "mechanism": {
            "name": MECHANISM,
            "why": REASON,
            "node_creation_hook": WITH_HOOK if has_node_creation_hook else WITHOUT_HOOK,
        },
        "core": {"name": choice().name, "why": choice().why},
        "devices": _devices(),
        "limits": {"stack_before": before, "stack_while_recording": _stack_limits(), "stack_wanted": ROOM},
        "entry_points": [
            {"name": f"torch.{point.name}", "exists": point.exists, "purpose": point.purpose, "without": point.without}
            for point in ENTRY_POINTS
        ],
        "self_test": [vars(check) for check in _checks()],
    }


def _checks() -> list[Check]:
    try:
        return self_test()
    except Exception as error:
        return [Check("the self-test's program runs", False, f"{type(error).__name__}: {error}")]


def _devices() -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())] if cuda else []
    return {"cuda_build": torch.version.cuda, "cuda_available": cuda, "cuda_devices": names}


def _stack_limits() -> dict[str, int | None]:
    """Bytes of the stack's soft and hard limit; None: unlimited, or not known on this system."""
    try:
        import resource
    except ImportError:
        return {"soft": None, "hard": None}
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    return {
        "soft": None if soft == resource.RLIM_INFINITY else soft,
        "hard": None if hard == resource.RLIM_INFINITY else hard,
    }

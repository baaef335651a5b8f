"""Which implementation of the hot path is in use: this package's Python, or the core in C that does the same.

The core is there where a compiler was when gradscope was installed. It records the usual calls and leaves the others to
the Python, on whose objects it works; so what is recorded is the same. ``GRADSCOPE_CORE=python`` does without it,
``gradscope doctor`` says what is in use.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from gradscope.recorder.calls.faults import is_programs
from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.observer import Observer
from gradscope.recorder.calls.torch_functions import Function
from gradscope.recorder.naming.seen_names import FULL_MATCHES
from gradscope.recorder.places import callers
from gradscope.recorder.places.call_sites import Site, share_warnings
from gradscope.recorder.places.code_owners import Owner
from gradscope.recorder.places.forwards_in_frames import MODULE_CALLS
from gradscope.recorder.state.gradient_looks import FIRST_OF_KIND, FIRST_PASSES, IN_A_ROW, GradientLooks
from gradscope.recorder.state.graph_nodes import GraphNodes
from gradscope.recorder.state.identity import Identity, Seen, SeenStorage
from gradscope.recorder.state.many_tensors import ACCUMULATED, CREATED, MISSING, UNTOUCHED
from gradscope.recorder.state.passes_in_flight import RunningPass
from gradscope.recorder.state.tensor_states import TensorStates
from gradscope.recorder.state.tensors_in import BORING, grad_of, tensors_in, version_of, written_version_of
from gradscope.recorder.tape import Tape
from gradscope.recorder.torch_internals import capabilities
from gradscope.recorder.torch_internals.saved_now import saves_without_hooks
from gradscope.recording.flags import BELOW, EXTERNAL, GRADIENT, LEAF, REQUIRES_GRAD, VERSION_FIELD, VIEW
from gradscope.recording.rows import Field, OpFlag, OpKind

VARIABLE = "GRADSCOPE_CORE"
"""The environment's variable that chooses: ``python`` or ``native``; without it the native core where there is one."""

INTERFACE = 7
"""What the core must be built for; see ``native/core.h``."""


_PYTHON: dict[str, Any] = {
    "python_handle": RecorderMode.__torch_function__,
    "python_enter": TensorStates.enter,
    "python_add": Identity.add,
    "python_bury": Identity.bury,
    "python_nodes": GraphNodes.enter,
}
"""What the core stands for, and leaves the unusual to."""

_OF_MANY = ("versions", "updated", "held", "cleared", "before", "after", "note_changes", "enter_new")
"""Methods of :class:`ManyTensors` that it stands for."""


class Choice(NamedTuple):
    """What is in use."""

    name: str
    """``native`` or ``python``."""
    why: str
    core: Any = None
    """The class of the native core."""
    packed_column: Any = None
    set_pairs: Any = None


@cache
def choice() -> Choice:
    """The implementation that this process uses."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "python":
        return Choice("python", f"{VARIABLE}=python asks for it")
    if sys.implementation.name != "cpython":
        return Choice("python", "the native core is for CPython")
    try:
        native = import_module("gradscope.recorder.native._core")
        if native.INTERFACE != INTERFACE:
            return Choice("python", "the native core was built from another version of gradscope")
        handle = native.set_up(_things())
    except ImportError:
        return Choice("python", "the native core was not built when gradscope was installed")
    except Exception as error:
        return Choice("python", f"the native core does not fit: {type(error).__name__}: {error}")
    if RecorderMode.__torch_function__ is _PYTHON["python_handle"]:
        RecorderMode.__torch_function__ = handle  # type: ignore[method-assign]
    return Choice("native", f"{VARIABLE}=python does without it", native.Core, native.packed_column, native.set_pairs)


def core_of(one: Observer) -> Any:
    """A native core for an observer, whose parts use it from now on; None where the Python is in use."""
    kind = choice().core
    parts = TensorStates.enter, Identity.add, Identity.bury, GraphNodes.enter
    if kind is None or parts != tuple(_PYTHON.values())[1:]:  # (somebody has put others in their place)
        return None
    try:
        core = kind(one)
    except Exception:
        one.fault("native core")
        return None
    # What the Python asks for of these it asks the core for as well.
    vars(one.identity).update(bury=core.bury, add=core.add)
    vars(one.states).update(enter=core.enter)
    vars(one.states.graph).update(enter=core.enter_node)
    one.tape.packed, one.tape.set_pairs = choice().packed_column, choice().set_pairs
    one.has_noted_step, one.has_noted_cleared = core.has_noted_step, core.has_noted_cleared
    vars(one.many).update({name: getattr(core, name) for name in _OF_MANY})
    return core


def _things() -> dict[str, Any]:
    """All that the core is set up with, by the names in ``native/core.h``."""
    tensor, storage = torch._C.TensorBase, torch._C.StorageBase
    return {
        **{kind.__name__: kind for kind in (Seen, SeenStorage, Tape, Identity, GraphNodes, Observer, Site, Function)},
        **_PYTHON,
        "Tensor": Tensor,
        "Parameter": Parameter,
        "CallPlace": callers.CallPlace,
        "RecorderMode": RecorderMode,
        "boring": BORING,
        "handle_code": callers.HANDLE_CODE,
        "module_calls": MODULE_CALLS,
        "sets_mode": callers.SETS_MODE,
        "owner_user": Owner.USER,
        "owner_torch": Owner.TORCH,
        "owner_library": Owner.LIBRARY,
        "tensors_in": tensors_in,
        "RunningPass": RunningPass,
        "GradientLooks": GradientLooks,
        "is_programs": is_programs,
        "share_warnings": share_warnings,
        "is_copied_on_write": capabilities.is_copied_on_write,
        "saves_without_hooks": saves_without_hooks,
        "innermost_saved_hooks": capabilities.innermost_saved_hooks,
        "strided": torch.strided,
        "grad_of": grad_of,
        "version_of": version_of,
        "written_version_of": written_version_of,
        "GRADIENT": GRADIENT,
        "CREATED": CREATED,
        "ACCUMULATED": ACCUMULATED,
        "UNTOUCHED": UNTOUCHED,
        "MISSING": MISSING,
        "REQUIRES_GRAD": REQUIRES_GRAD,
        "LEAF": LEAF,
        "EXTERNAL": EXTERNAL,
        "VIEW": VIEW,
        "VERSION_FIELD": VERSION_FIELD,
        "BELOW": BELOW,
        "GRAD": int(OpFlag.GRAD),
        "INFERENCE": int(OpFlag.INFERENCE),
        "AUTOCAST": int(OpFlag.AUTOCAST),
        "FULL_MATCHES": FULL_MATCHES,
        "CALL": int(OpKind.CALL),
        "READ_GRAD": int(OpKind.READ_GRAD),
        "EXPORT": int(OpKind.EXPORT),
        "BACKWARD": int(OpKind.BACKWARD),
        "STEP": int(OpKind.STEP),
        "GROUP": int(OpKind.GROUP),
        "GRAD_FIELD": int(Field.GRAD),
        "FIRST_PASSES": FIRST_PASSES,
        "IN_A_ROW": IN_A_ROW,
        "FIRST_OF_KIND": FIRST_OF_KIND,
        "ask_requires_grad": vars(tensor)["requires_grad"],
        "ask_grad_fn": vars(tensor)["grad_fn"],
        "ask_untyped_storage": vars(tensor)["untyped_storage"],
        "ask_shape": vars(tensor)["shape"],
        "ask_stride": vars(tensor)["stride"],
        "ask_dtype": vars(tensor)["dtype"],
        "ask_device": vars(tensor)["device"],
        "ask_version": vars(tensor)["_version"],
        "ask_is_view": vars(tensor)["_is_view"],
        "ask_storage_nbytes": vars(storage)["nbytes"],
        "ask_storage_data_ptr": vars(storage)["data_ptr"],
        "ask_base": vars(tensor)["_base"],
        "ask_storage_offset": vars(tensor)["storage_offset"],
        "ask_nbytes": vars(tensor)["nbytes"],
        "ask_tensor_layout": vars(tensor)["layout"],
        "ask_is_nested": vars(tensor)["is_nested"],
        "ask_dim": vars(tensor)["dim"],
        "ask_is_leaf": vars(tensor)["is_leaf"],
        "ask_retains_grad": vars(tensor)["retains_grad"],
        "ask_grad": vars(tensor)["grad"],
        "ask_numel": vars(tensor)["numel"],
        "ask_is_cpu": vars(tensor)["is_cpu"],
        "ask_item": vars(tensor)["item"],
        "ask_profiler": capabilities.profiler_enabled,
        "ask_functorch": capabilities.functorch,
        "ask_is_grad_enabled": torch.is_grad_enabled,
        "ask_is_inference_mode": torch.is_inference_mode_enabled,
        "ask_is_any_autocast": capabilities.is_any_autocast_enabled,
        "ask_tracing_state": capabilities.tracing_state,
        "ask_sequence_number": capabilities.sequence_number,
        "ask_dispatch_modes": capabilities.dispatch_modes,
    }

"""torch's private entry points that the recorder uses; ``gradscope doctor`` says which of them this torch has."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class EntryPoint:
    """A private name of torch's, and what becomes of the recorder without it."""

    name: str
    """Below ``torch``: ``_C._autograd._get_sequence_nr``."""
    purpose: str
    without: str = ""
    """How the recorder does without it; empty: it cannot."""

    @property
    def exists(self) -> bool:
        """Whether this torch has it."""
        found: object = torch
        for part in self.name.split("."):
            found = getattr(found, part, None)
        return found is not None


ENTRY_POINTS = (
    EntryPoint("_C._autograd._get_sequence_nr", "number of the next graph node: which nodes an op made"),
    EntryPoint(
        "_C._autograd._top_saved_tensors_default_hooks",
        "whether saved-tensor hooks are in force, so that reading would run them",
        "pushes and pops of hooks are counted instead",
    ),
    EntryPoint(
        "_C._autograd.SavedTensor.unpack_hook",
        "whether a saved tensor is behind a hook, so that reading it would run the hook",
        "saved_bytes refuses once hooks were in force",
    ),
    EntryPoint(
        "_C._autograd._saved_tensors_hooks_set_tracing",
        "letting the program's saved-tensor hooks rest while an expectation is evaluated",
    ),
    EntryPoint("_C._autograd._unsafe_set_version_counter", "whether two tensors share a version counter"),
    EntryPoint(
        "_C._is_cow_tensor",
        "whether a tensor's memory would be copied if its address were asked for",
        "the address is asked for, and such a tensor becomes a copy early",
    ),
    EntryPoint("_C._set_grad_enabled", "setting grad mode, as a function mode is told of it"),
    EntryPoint("_C._is_any_autocast_enabled", "autocast at each op"),
    EntryPoint("_C._len_torch_dispatch_stack", "whether the program has a dispatch mode of its own"),
    EntryPoint("_C._len_torch_function_stack", "the recorder's place among the function modes"),
    EntryPoint("_C._get_function_stack_at", "the recorder's place among the function modes"),
    EntryPoint("_C._push_on_torch_function_stack", "one op for an optimizer's step, and for its zero_grad"),
    EntryPoint("_C._pop_torch_function_stack", "one op for an optimizer's step, and for its zero_grad"),
    EntryPoint("_C._get_tracing_state", "torch.jit.trace is left alone"),
    EntryPoint("_C._create_graph_by_tracing", "torch.jit.trace is left alone"),
    EntryPoint("_C.ScriptModule._create_method_from_trace", "torch.jit.trace is left alone"),
    EntryPoint(
        "_C._dynamo.eval_frame.set_eval_frame",
        "the recorder's mode is off while torch.compile looks at what runs",
        "dynamo follows the recorder's mode into its graphs",
    ),
    EntryPoint(
        "_C._dynamo.eval_frame._FrameExecStrategy",
        "dynamo neither compiles nor counts the recorder's functions",
        "older torch's skip_code does it",
    ),
    EntryPoint("_C._swap_tensor_impl", "what is known of a tensor follows torch.utils.swap_tensors"),
    EntryPoint("_C._jit_get_schemas_for_operator", "which functions may change their inputs"),
    EntryPoint("_C._DisableFuncTorch", "random numbers while an expectation is evaluated within a transform"),
    EntryPoint("_C.DisableTorchFunctionSubclass", "looking at a tensor subclass without running its code"),
    EntryPoint("_C.DisableTorchFunction", "looking at tensors without being seen by the program's modes"),
)

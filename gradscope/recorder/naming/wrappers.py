"""Modules that stand for another one: what people call their parts by, they leave out.

``model`` in ``model = DDP(Net())`` is the network to whoever writes about it: ``model.fc.weight``, though the path of
attributes is ``model.module.fc.weight``. Most wrappers hand on what they do not have themselves, so that the short path
is Python as well.
"""

from __future__ import annotations

from typing import Any

from torch import nn

_WRAPPED = {
    ("torch.nn.parallel.distributed", "DistributedDataParallel"): "module",
    ("torch.nn.parallel.data_parallel", "DataParallel"): "module",
    ("torch._dynamo.eval_frame", "OptimizedModule"): "_orig_mod",
    ("torch.distributed.fsdp.fully_sharded_data_parallel", "FullyShardedDataParallel"): "_fsdp_wrapped_module",
    (
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper",
        "ActivationWrapper",
    ): "_checkpoint_wrapped_module",
    ("peft.peft_model", "PeftModel"): "base_model",
    ("peft.tuners.tuners_utils", "BaseTuner"): "model",
    ("peft.tuners.tuners_utils", "BaseTunerLayer"): "base_layer",
    ("peft.utils.other", "AuxiliaryTrainingWrapper"): "original_module",
    ("lightning.fabric.wrappers", "_FabricModule"): "_forward_module",
    ("lightning_fabric.wrappers", "_FabricModule"): "_forward_module",
    ("opacus.grad_sample.gsm_base", "AbstractGradSampleModule"): "_module",
}
"""By module and name of a class (or of one that it is made from): under which name it has what it stands for."""


def wrapped_name(module: nn.Module) -> str:
    """The name under which a module has the one that it stands for; empty for one that stands for itself."""
    for kind in type(module).__mro__:
        if kind is nn.Module:
            break
        found = _WRAPPED.get((kind.__module__, kind.__qualname__))
        if found is not None:
            return found
    return ""


def behind_wrappers(module: Any) -> Any:
    """What a module stands for in the end, itself where it stands for none."""
    while (name := wrapped_name(module)) and (inner := vars(module).get("_modules", {}).get(name)) is not None:
        module = inner
    return module

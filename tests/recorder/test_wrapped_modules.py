"""What stands for a module of the user's: names are those that the user says, and a compiled function has its own."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.recording import Recording
from tests.analysis.building import recorded

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2)])
    def forward(self, x):
        return self.layers[0](x)
"""
STEP = """
model(torch.ones(1, 2)).sum().backward()
"""


def leaves(recording: Recording) -> set[str]:
    return {gradient.name for backward in build(recording).backwards for gradient in backward.gradients}


def stand_in(kind: str, attribute: str) -> str:
    """A class that torch or a library has, which holds a module under an attribute and hands on to it."""
    module, _, name = kind.rpartition(".")
    return f"""
class {name}(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.{attribute} = inner
    def forward(self, *args):
        return self.{attribute}(*args)
{name}.__module__ = {module!r}
class Special{name}({name}): pass
"""


def test_of_ddp_the_name_is_the_users(tmp_path):
    source = f"""{NET}
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo", init_method="file://{tmp_path}/store", rank=0, world_size=1)
model = DistributedDataParallel(Net())
{STEP}
del model  # (or the collector frees the group under the interpreter's lock, which its thread may wait for)
dist.destroy_process_group()
"""
    assert leaves(recorded(source)) == {"model.layers.0.weight", "model.layers.0.bias"}


@pytest.mark.parametrize(
    ("kind", "attribute"),
    [
        ("torch.nn.parallel.data_parallel.DataParallel", "module"),
        ("torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel", "_fsdp_wrapped_module"),
        ("lightning.fabric.wrappers._FabricModule", "_forward_module"),
    ],
)
def test_a_wrapper_is_left_out_of_names(kind: str, attribute: str):
    name = kind.rpartition(".")[2]
    source = NET + stand_in(kind, attribute) + f"model = Special{name}({name}(Net()))" + STEP
    assert leaves(recorded(source)) == {"model.layers.0.weight", "model.layers.0.bias"}


def test_of_an_adapted_layer_the_base_has_the_layers_name():
    source = (
        NET
        + stand_in("peft.peft_model.PeftModel", "base_model")
        + stand_in("peft.tuners.tuners_utils.BaseTuner", "model")
        + stand_in("peft.tuners.tuners_utils.BaseTunerLayer", "base_layer")
        + "net = Net(); net.layers[0] = BaseTunerLayer(net.layers[0]); net.layers[0].lora_A = nn.Linear(2, 2)\n"
        + "model = PeftModel(BaseTuner(net)); del net\n"
        + "model(torch.ones(1, 2)).sum().backward()\n"
    )
    expected = {f"model.layers.0.{part}" for part in ("weight", "bias", "lora_A.weight", "lora_A.bias")}
    assert leaves(recorded(source)) <= expected | {"net.layers.0.weight", "net.layers.0.bias"}
    names = set(recorded(source).strings)
    assert expected <= names
    assert not any("layers.0.base_layer" in name for name in names)


def test_a_module_of_the_users_own_that_holds_another_keeps_its_path():
    source = NET + stand_in("mine.Holder", "module") + "model = Holder(Net())" + STEP
    assert leaves(recorded(source)) == {"model.module.layers.0.weight", "model.module.layers.0.bias"}


def test_what_a_wrapper_hands_on_is_named_as_it_is_written():
    source = (
        NET
        + "model = torch.compile(Net(), backend='eager')\n"
        + "model(torch.ones(1, 2)).sum().backward()\n"
        + "print(model.layers[0].weight.grad)\n"
    )
    recording = recorded(source)
    assert leaves(recording) == {"model.layers.0.weight", "model.layers.0.bias"}
    assert not any("_orig_mod" in name for name in recording.strings)


def test_a_compiled_function_has_its_name():
    source = """
import torch

@torch.compile(backend="eager")
def scaled(x, w):
    return (x * w).sum()

class Net(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2

w = torch.ones(2, requires_grad=True)
model = torch.compile(Net(2, 2), backend="eager")
(scaled(torch.ones(2), w) + model(torch.ones(2)).sum()).backward()
"""
    recording = recorded(source)
    called = {recording.text(op.func) for op in recording.ops}
    assert {"scaled", "Net.forward"} <= called
    assert not any("<locals>" in name for name in called)

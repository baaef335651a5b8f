"""Of fully_shard the sharded parameters are the program's; the others stand in modules only while these run."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

PROGRAM = """
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

dist.init_process_group("gloo", init_method="file://{store}", rank=0, world_size=1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 4)
        self.two = nn.Linear(4, 4)
    def forward(self, x):
        x = self.one(x)
        return {last}

model = Net()
fully_shard(model.one)
fully_shard(model)
opt = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(2):
    opt.zero_grad()
    model(torch.ones(2, 4)).sum().backward()
    opt.step()
dist.destroy_process_group()
"""
pytest.importorskip("torch.distributed.fsdp")


def test_only_the_sharded_ones_are_leaves(tmp_path):
    report = build(recorded(PROGRAM.format(store=tmp_path / "store", last="self.two(x)")))
    assert report.answers == ()
    names = {gradient.name for backward in report.backwards for gradient in backward.gradients}
    assert names == {f"model.{layer}.{part}" for layer in ("one", "two") for part in ("weight", "bias")}
    assert report.summary.leaves_with_gradient == 4


def test_a_layer_that_is_not_used_is_named(tmp_path):
    report = build(recorded(PROGRAM.format(store=tmp_path / "store", last="x")))
    (answer,) = report.answers
    assert answer.code == "leaf-unreached"
    assert "model.two.weight and model.two.bias" in answer.text


def test_an_optimizer_that_was_made_before_sharding_is_named_with_the_line_that_shards(tmp_path):
    program = PROGRAM.format(store=tmp_path / "store", last="self.two(x)").replace("range(2)", "range(3)")
    made = "opt = torch.optim.SGD(model.parameters(), 0.1)\n"
    early = program.replace(made, "").replace("model = Net()\n", f"model = Net()\n{made}")
    (answer,) = build(recorded(early)).answers
    assert (answer.code, answer.causes[0].source.strip()) == ("steps-without-gradients", made.strip())
    sharded = next(at for at, line in enumerate(early.strip().splitlines(), 1) if line.startswith("fully_shard"))
    assert f"fully_shard (line {sharded}) put in their place" in answer.text
    assert build(recorded(program)).answers == ()
    some = program.replace(made, "").replace("fully_shard(model)\n", f"{made}fully_shard(model)\n")
    (answer,) = build(recorded(some)).answers  # (what was sharded before is stepped)
    assert "given model.two.weight and model.two.bias" in answer.text and "changed nothing of these" in answer.text

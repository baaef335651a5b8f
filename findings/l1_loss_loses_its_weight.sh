#!/usr/bin/env bash
# torch 2.13.0, CPU, Python 3.11: F.l1_loss(x, y, weight=w) gives another number as soon as any function mode is on, one
# that only calls what it is given included: the weight is not handed on, so the loss is the unweighted one. The same call
# of F.mse_loss keeps its weight. (In torch/nn/functional.py l1_loss leaves `weight` out of what it gives to
# handle_torch_function.) A good guess would have been that a mode which passes everything on changes nothing.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$work/venv/bin/python" - <<'P'
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class PassOn(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


x, y, weight = torch.tensor([1.0, 2.0]), torch.zeros(2), torch.tensor([10.0, 0.0])


def losses():
    return [loss(x, y, weight=weight).item() for loss in (F.l1_loss, F.mse_loss)]


plain = losses()
with PassOn():
    passed_on = losses()
print("l1_loss, mse_loss without a mode:", plain)
print("l1_loss, mse_loss under a mode that passes all on:", passed_on)
assert plain == [1.0, 1.0], plain
assert passed_on == [1.5, 1.0], passed_on
P

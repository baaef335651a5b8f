#!/usr/bin/env bash
# torch 2.13.0, CPU, Python 3.11: torch.autograd.grad gives the gradients of two parameters that were added as one tensor, on
# one memory. Put into .grad of the two (as programs do that compute gradients of several losses apart), it is scaled twice by
# clip_grad_norm_, with and without foreach: the norm that is left is the limit times limit / norm, not the limit. backward()
# gives each parameter memory of its own. A good guess would have been that the two ways differ in where the gradients go alone,
# and that no clipping leaves less than its limit.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$work/venv/bin/python" - <<'P'
import torch
from torch import nn


def with_gradients(by_backward):
    pair = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    loss = (pair[0] + pair[1]).pow(2).sum()
    if by_backward:
        loss.backward()
    else:
        for parameter, gradient in zip(pair, torch.autograd.grad(loss, pair)):
            parameter.grad = gradient
    return pair


for by_backward in (True, False):
    for foreach in (False, True):
        pair = with_gradients(by_backward)
        shared = pair[0].grad.data_ptr() == pair[1].grad.data_ptr()
        norm = nn.utils.clip_grad_norm_(pair, 1.0, foreach=foreach).item()
        left = torch.stack([parameter.grad for parameter in pair]).norm().item()
        how = "backward()" if by_backward else "autograd.grad"
        print(f"{how}, foreach={foreach}: one memory: {shared}; norm {norm:.3f}, clipped to 1: {left:.3f}")
        assert shared is not by_backward
        assert abs(left - (1.0 if by_backward else 1.0 / norm)) < 1e-3, left
P

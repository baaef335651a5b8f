#!/usr/bin/env bash
# torch 2.13.0, CPU, Python 3.11: an autograd.Function whose forward returns its input as it is (a gradient reversal, most
# straight-through estimators) makes torch's C++ call Tensor.view_as(x, x) by way of __torch_function__: a
# TorchFunctionMode is told of it, with grad mode off, though neither the program nor torch's Python calls view_as. For a
# forward that returns a tensor that it made, the mode is told of nothing but what forward calls. A good guess would have
# been that Function.apply, which modes are not told of, does all that it does for itself unseen; or that they are told of
# `apply`. Whoever counts or rewrites view_as in a mode meets calls that no line of any source makes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$work/venv/bin/python" - <<'P'
import torch
from torch.overrides import TorchFunctionMode, resolve_name


class Told(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.calls.append((resolve_name(func), torch.is_grad_enabled(), len(args) == 2 and args[0] is args[1]))
        return func(*args, **(kwargs or {}))


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, grad):
        return -grad


class Doubled(Reversed):
    @staticmethod
    def forward(ctx, x):
        return x * 2


def told_of(function):
    x = torch.ones(2, requires_grad=True)
    with Told() as told:
        function.apply(x)
    return told.calls


same, made = told_of(Reversed), told_of(Doubled)
print("forward returns its input:", same)
print("forward returns what it made:", made)
assert same == [("torch.Tensor.view_as", False, True)], same
assert made == [("torch.Tensor.mul", False, False)], made
P

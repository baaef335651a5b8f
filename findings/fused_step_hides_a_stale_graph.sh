#!/usr/bin/env bash
# torch 2.13.0, CPU, Python 3.11: an optimizer with fused=True writes the parameters without counting it in their version.
# A graph that was kept and has saved a parameter is then walked again after the step without an error, with the new values
# where the old ones were meant: the gradient is that of no function that was ever computed. With foreach=True, the same
# program raises "modified by an inplace operation". A good guess would have been that how a step is computed does not decide
# whether autograd sees it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$work/venv/bin/python" - <<'P'
import torch


def second_backward(kind, **how):
    w = torch.nn.Parameter(torch.ones(3))
    v = torch.nn.Parameter(torch.ones(3))
    optimizer = kind([w, v], lr=0.1, **how)
    loss = (w * v * w).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    optimizer.zero_grad()
    versions = w._version
    try:
        loss.backward()
    except RuntimeError as error:
        return versions, "modified by an inplace operation" in str(error)
    return versions, w.grad[0].item()


for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad):
    counted, raised = second_backward(kind, foreach=True)
    uncounted, gradient = second_backward(kind, fused=True)
    print(f"{kind.__name__}: foreach: version {counted}, raises: {raised}; fused: version {uncounted}, gradient {gradient:.3f}")
    assert counted > 0 and raised is True, (counted, raised)
    assert uncounted == 0 and gradient < 1.99, (uncounted, gradient)  # at w = v = 1, where the loss was computed, it is 2
P

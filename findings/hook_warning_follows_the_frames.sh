#!/usr/bin/env bash
# torch 2.13.0, CPU, Python 3.11: the warning "Full backward hook is firing when gradients are computed with respect to
# module outputs ..." is put down to the frame a fixed number of frames above the hook, as many as loss.backward() has.
# torch.autograd.backward(loss) has one less: the warning then names the line that called the function around it. Inside
# `with torch.device(...)` (or torch.set_default_device, any TorchFunctionMode) there are more: it names a file of torch's,
# torch/utils/_device.py. A good guess would have been that it names the line that calls backward, or the hook's module,
# in each case. So a filter by module ("error" for one's own code) catches the first, blames another line for the second
# and lets the third through, for one and the same program.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy
cat > "$work/program.py" <<'P'
import warnings

import torch
from torch import nn


def loss():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[0].register_full_backward_hook(lambda module, grad_input, grad_output: None)
    return net(torch.ones(1, 2)).sum()


def by_method():
    loss().backward()


def by_function():
    torch.autograd.backward(loss())


def on_a_device():
    with torch.device("cpu"):
        loss().backward()


def told_at(run):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    (one,) = [one for one in caught if "Full backward hook" in str(one.message)]
    return one.filename.rpartition("/")[2], one.lineno


called = told_at.__code__.co_firstlineno + 3  # run()
found = [told_at(run) for run in (by_method, by_function, on_a_device)]
print(found)
assert found[0] == ("program.py", by_method.__code__.co_firstlineno + 1), found
assert found[1] == ("program.py", called), (found, called)
assert found[2][0] == "_device.py", found
P
"$work/venv/bin/python" "$work/program.py"

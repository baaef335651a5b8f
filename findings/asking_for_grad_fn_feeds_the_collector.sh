#!/usr/bin/env bash
# torch 2.13.0, Python 3.11: what tensor.grad_fn gives is kept by its node for as long as the node lives, though nothing of
# the program's holds it, and the garbage collector counts and visits it. So code that only looks (hands grad_fn to a log,
# asks for its name) leaves one object more for each node of the graph, and Python collects more than twice as often in a
# chain of small operations. A good guess would have been that the object goes as soon as nobody holds it, as what
# tensor.shape or tensor.device gives does.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
export PIP_CONSTRAINT="$work/none" # the version is the one below, whatever else is constrained
touch "$PIP_CONSTRAINT"
"$work/venv/bin/pip" install --quiet torch==2.13.0
"$work/venv/bin/python" - <<'P'
import gc

import torch

torch.set_num_threads(1)


def rounds(look):
    leaf = torch.ones(4, requires_grad=True)
    before, alive = gc.get_stats()[0]["collections"], 0
    for turn in range(20):
        result = leaf
        for _ in range(1000):
            result = result * leaf
            look(result)
        if turn == 10:
            alive = sum(type(one).__name__ == "MulBackward0" for one in gc.get_objects())
        result.sum().backward()
    return gc.get_stats()[0]["collections"] - before, alive


rounds(lambda result: None)
plain, nodes_alone = rounds(lambda result: None)
looked, nodes_looked = rounds(lambda result: result.grad_fn)
shape, nodes_shape = rounds(lambda result: result.shape)
print(f"collections: {plain} without looking, {shape} with shape, {looked} with grad_fn")
print(f"objects of nodes in a graph of 1,000: {nodes_alone}, {nodes_shape}, {nodes_looked}")
assert (nodes_alone, nodes_shape) == (0, 0), (nodes_alone, nodes_shape)
assert nodes_looked >= 1000, nodes_looked
assert shape < 1.5 * plain < looked, (plain, shape, looked)
P

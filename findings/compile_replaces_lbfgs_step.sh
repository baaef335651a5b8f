#!/usr/bin/env bash
# torch 2.13.0, Python 3.11: torch.compile of any function, with the "eager" backend too and before the function is ever
# called, replaces the methods LBFGS.step and SparseAdam.step in their classes for the rest of the process, whether or not
# the program uses an optimizer: from then on they are torch._dynamo's "let this alone" wrapper, and their code is that of
# torch/_dynamo/eval_frame.py, called _fn. No other optimizer of torch.optim is touched. So what a profiler, a traceback or
# a tool sees of one and the same line, search.step(closure), depends on whether something unrelated was compiled before
# it. A good guess would have been that compiling a function leaves classes that it does not mention as they are.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
export PIP_CONSTRAINT="$work/none" # the version is the one below, whatever else is constrained
touch "$PIP_CONSTRAINT"
"$work/venv/bin/pip" install --quiet torch==2.13.0
"$work/venv/bin/python" - <<'P'
import torch


def steps():
    kinds = (kind for kind in vars(torch.optim).values() if isinstance(kind, type))
    optimizers = [kind for kind in kinds if issubclass(kind, torch.optim.Optimizer)]
    return {kind.__name__: kind.step.__code__ for kind in optimizers}


before = steps()
torch.compile(lambda x: x + 1, backend="eager")
changed = {name: code for name, code in steps().items() if code is not before[name]}
for name, code in changed.items():
    print(f"{name}.step: {before[name].co_name} -> {code.co_name} of {code.co_filename.rpartition('/torch/')[2]}")
assert set(changed) == {"LBFGS", "SparseAdam"}, changed
assert {code.co_name for code in changed.values()} == {"_fn"}, changed
P

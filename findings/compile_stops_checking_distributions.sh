#!/usr/bin/env bash
# torch 2.13.0, Python 3.11: torch.compile of any function, before it is called and with the "eager" backend too, ends the
# checks of torch.distributions for the rest of the process: Normal(mean, scale) with a negative scale, refused with a
# ValueError before, is accepted afterwards, and log_prob gives NaN in silence. The calls that distributions make change as
# well: log_prob no longer looks at the value first. A good guess would have been that compiling one function leaves alone
# what runs uncompiled, as the checks are documented as on by default.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
export PIP_CONSTRAINT="$work/none" # the version is the one below, whatever else is constrained
touch "$PIP_CONSTRAINT"
"$work/venv/bin/pip" install --quiet torch==2.13.0
"$work/venv/bin/python" - <<'P'
import torch
from torch.distributions import Normal


def told():
    try:
        normal = Normal(torch.zeros(2), torch.tensor([1.0, -1.0]))
    except ValueError:
        return "refused"
    return f"accepted, log_prob {normal.log_prob(torch.ones(2)).tolist()}"


before = told()
torch.compile(lambda x: x + 1, backend="eager")
after = told()
print("before torch.compile:", before)
print("after torch.compile:", after)
assert before == "refused", before
assert after.startswith("accepted") and after.endswith("nan]"), after
P

#!/usr/bin/env bash
# torch 2.13.0, CPU, gloo, Python 3.11: init_process_group puts its own sys.excepthook around the one that is there, so that
# tracebacks begin with the rank, and destroy_process_group leaves it there. A second group wraps the first one's: from then
# on each line of a traceback has the rank twice, and so on. A good guess would have been that the end of the group puts the
# process's hook back, or that a hook that is in place already is not put there again.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$work/venv/bin/python" - <<'P'
import contextlib
import io
import sys

import torch.distributed as dist


def shown():
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream):
        sys.excepthook(ValueError, ValueError("some text"), None)
    return stream.getvalue().strip()


def one_group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    dist.destroy_process_group()
    return shown()


before = sys.excepthook
first, second = one_group(), one_group()
print("the hook is the one from before:", sys.excepthook is before)
print("an error after a group that is gone:", first)
print("after a second one:", second)
assert sys.excepthook is not before
assert first == "[rank0]: ValueError: some text", first
assert second == "[rank0]: [rank0]: ValueError: some text", second
P

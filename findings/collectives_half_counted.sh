#!/usr/bin/env bash
# torch 2.13.0, CPU, gloo, Python 3.11: collectives of torch.distributed write into the tensor that they are given, and only
# some of them count that in its version. all_gather, gather and reduce_scatter do; all_reduce, broadcast, reduce, scatter
# and all_to_all_single do not. So a tensor that a graph has saved can be summed over the ranks before the backward pass, which
# then computes with the sums and raises nothing, while after reduce_scatter into it the same pass is refused as "modified by
# an inplace operation". A good guess would have been that collectives are alike in this, whichever way it is.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy
cat > "$work/both.py" <<'P'
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def calls(rank):
    two = lambda: [torch.ones(2), torch.ones(2)]
    return {
        "all_reduce": lambda t: dist.all_reduce(t),
        "broadcast": lambda t: dist.broadcast(t, src=0),
        "reduce": lambda t: dist.reduce(t, dst=0),
        "scatter": lambda t: dist.scatter(t, two() if rank == 0 else None, src=0),
        "all_to_all_single": lambda t: dist.all_to_all_single(t, torch.ones(2)),
        "all_gather": lambda t: dist.all_gather([t, torch.zeros(2)], torch.ones(2)),
        "gather": lambda t: dist.gather(torch.ones(2), [t, torch.zeros(2)] if rank == 0 else None, dst=0),
        "reduce_scatter": lambda t: dist.reduce_scatter(t, two()),
    }


def work(rank, store):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    counted = {}
    for name, call in calls(rank).items():
        t = torch.zeros(2)
        call(t)
        counted[name] = t._version
    outcomes = {}
    for name in ("all_reduce", "reduce_scatter"):
        w = torch.ones(2, requires_grad=True)
        seen = torch.full((2,), 3.0)
        loss = (w * seen).sum()
        calls(rank)[name](seen)
        try:
            loss.backward()
            outcomes[name] = w.grad[0].item()
        except RuntimeError as error:
            outcomes[name] = "refused" if "modified by an inplace operation" in str(error) else str(error)
    if rank == 0:
        print("versions after one call:", counted)
        print("gradient where 3 was meant:", outcomes)
        uncounted = ("all_reduce", "broadcast", "reduce", "scatter", "all_to_all_single")
        assert all(counted[name] == 0 for name in uncounted), counted
        assert all(counted[name] > 0 for name in ("all_gather", "gather", "reduce_scatter")), counted
        assert outcomes == {"all_reduce": 6.0, "reduce_scatter": "refused"}, outcomes
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(work, args=(sys.argv[1],), nprocs=2)
P
"$work/venv/bin/python" "$work/both.py" "$work/store"

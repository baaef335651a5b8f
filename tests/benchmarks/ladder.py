"""What each fact costs in pure Python: function modes that record one fact more each, on 4-element multiplications.

Run ``python -m tests.benchmarks --only ladder``. Each step's mode is the text below with the lines of later steps left
out, so that nothing of theirs is paid, not even an ``if``. It calls no Python function but the one through which the
program's call is made: it is the floor for these facts in Python, whatever the code around them looks like.
"""

from __future__ import annotations

import sys
import threading
from contextlib import nullcontext
from functools import partial
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tests.benchmarks.measure import interleave
from tests.benchmarks.workloads import CHAIN, multiplications

STEPS = (
    "no-op function mode",
    "function looked up, caller's frame and instruction, call in the caller's name",
    "grad, inference and autocast mode, saved-tensor hooks",
    "op row, inputs by identity",
    "result: weak reference, its death, tensor row",
    "layout: shape, stride, dtype, device",
    "storage: weak reference, its death, bytes, address, row",
    "requires_grad, grad_fn, node row",
    "edges",
    "saved tensors",
    "a lock around the rows, an except around the whole",
)

# Each line ends with the step from which it is there; "4-6": only in steps 4 to 6.
_TEXT = """
def __torch_function__(self, func, types, args=(), kwargs=None):                        # 0
    return func(*args, **(kwargs or {}))                                                # 0-0
    info = functions.get(func)                                                          # 1
    if info is None:                                                                    # 1
        info = functions[func] = (len(functions), 0)                                    # 1
    frame = getframe(1)                                                                 # 1
    key = (id(frame.f_code), frame.f_lasti)                                             # 1
    place = places.get(key)                                                             # 1
    if place is None:                                                                   # 1
        place = places[key] = (call, len(places))                                       # 1
    since = next_sequence()                                                             # 1
    try:                                                                                # 10
        result = place[0](func, args, kwargs)                                           # 10
    except BaseException as error:                                                      # 10
        raise error                                                                     # 10
    result = place[0](func, args, kwargs)                                               # 1-9
    return result                                                                       # 1-1
    lock.acquire()                                                                      # 10
    try:                                                                                # 10
    if True:                                                                            # 2-9
        while dead:                                                                     # 4
            grave = graves.pop(id(dead.pop()))                                          # 4
            if grave & 1:                                                               # 4
                storage_deaths.append(storages.pop(grave >> 1)[0])                      # 6
                pass                                                                    # 4
            else:                                                                       # 4
                tensor_deaths.append(tensors.pop(grave >> 1)[0])                        # 4
        flags = grad_mode() | inference_mode() << 1 | autocast() << 2                   # 2
        if saved_hooks(True) is not None:                                               # 2
            flags |= 8                                                                  # 2
        op = count[0]                                                                   # 3
        count[0] = op + 1                                                               # 3
        ops.extend((info[0], info[1], place[1], -1, 0, flags, 1))                       # 3
        for value in args:                                                              # 3
            seen = tensors.get(id(value))                                               # 3
            if seen is not None:                                                        # 3
                uses.extend((op, seen[0]))                                              # 3
            elif type(value) is Tensor:                                                 # 3
                first_seen(value, op)                                                   # 3
        if type(result) is Tensor and id(result) not in tensors:                        # 4
            layout_key = (result.shape, result.stride(), result.dtype, result.device)   # 5
            layout = layouts.get(layout_key)                                            # 5
            if layout is None:                                                          # 5
                layout = layouts[layout_key] = (len(layouts), result.nbytes)            # 5
            layout = (0, 16)                                                            # 4-4
            storage = 0                                                                 # 4-5
            block = result.untyped_storage()                                            # 6
            known = storages.get(id(block))                                             # 6
            if known is None:                                                           # 6
                storage = count[1]                                                      # 6
                count[1] = storage + 1                                                  # 6
                reference = ref(block, entomb)                                          # 6
                block_key = id(block)                                                   # 6
                graves[id(reference)] = block_key * 2 + 1                               # 6
                storages[block_key] = (storage, reference)                              # 6
                storage_rows.extend((op, block.nbytes(), block.data_ptr(), -1, 0))      # 6
            else:                                                                       # 6
                storage = known[0]                                                      # 6
            node = -1                                                                   # 4
            requires_grad = False                                                       # 4-6
            requires_grad = result.requires_grad                                        # 7
            if requires_grad:                                                           # 7
                grad_fn = result.grad_fn                                                # 7
                if grad_fn is not None:                                                 # 7
                    sequence = grad_fn._sequence_nr()                                   # 7
                    node = nodes.get(sequence)                                          # 7
                    if node is None:                                                    # 7
                        node = nodes[sequence] = count[2]                               # 7
                        count[2] = node + 1                                             # 7
                        kind = node_types.get(type(grad_fn))                            # 7
                        if kind is None:                                                # 7
                            kind = describe(type(grad_fn))                              # 7
                        node_rows.extend((op, kind[0], -1))                             # 7
                        for following, _ in grad_fn.next_functions:                     # 8
                            if following is None:                                       # 8
                                edge_rows.extend((node, -1))                            # 8
                                continue                                                # 8
                            target = nodes.get(following._sequence_nr())                # 8
                            if target is None:                                          # 8
                                target = accumulators[id(following.variable)]           # 8
                            edge_rows.extend((node, target))                            # 8
                        if sequence >= since and not flags & 8:                         # 9
                            for name, text in kind[1]:                                  # 9
                                value = getattr(grad_fn, name)                          # 9
                                seen = tensors.get(id(value))                           # 9
                                if seen is not None:                                    # 9
                                    saved.extend((node, text, seen[1], seen[0], seen[2])) # 9
            row = count[3]                                                              # 4
            count[3] = row + 1                                                          # 4
            tensor_rows.extend((op, storage, layout[0], node, requires_grad, -1))       # 4
            reference = ref(result, entomb)                                             # 4
            key = id(result)                                                            # 4
            graves[id(reference)] = key * 2                                             # 4
            tensors[key] = (row, storage, layout[1], node, requires_grad, layout[0], reference) # 4
        if len(ops) > 28000:                                                            # 3
            for rows in (ops, uses, tensor_rows, storage_rows, node_rows, edge_rows, saved): # 3
                rows.clear()                                                            # 3
    except Exception:                                                                   # 10
        raise                                                                           # 10
    finally:                                                                            # 10
        lock.release()                                                                  # 10
    return result                                                                       # 2
"""


def mode_of(step: int) -> TorchFunctionMode:
    """A function mode that records the facts of all steps up to the given one."""
    lines = []
    for line in _TEXT.strip().splitlines():
        code, _, steps = line.rpartition("#")
        first, _, last = steps.strip().partition("-")
        if int(first) <= step <= int(last or len(STEPS)):
            lines.append(code.rstrip())
    space = _state()
    exec("\n".join(lines), space)
    kind = type("Step", (TorchFunctionMode,), {"__torch_function__": space["__torch_function__"]})
    mode: TorchFunctionMode = kind()
    return mode


def _state() -> dict[str, Any]:
    """The names that the text uses: torch's functions, and empty tables."""
    space: dict[str, Any] = {"Tensor": Tensor, "ref": ref, "getframe": sys._getframe, "lock": threading.RLock()}
    autograd = torch._C._autograd
    space["next_sequence"] = autograd._get_sequence_nr
    space["saved_hooks"] = getattr(autograd, "_top_saved_tensors_default_hooks", lambda _: None)
    space["autocast"] = torch._C._is_any_autocast_enabled
    space["grad_mode"], space["inference_mode"] = torch.is_grad_enabled, torch.is_inference_mode_enabled
    space["call"] = lambda func, args, kwargs: func(*args, **kwargs) if kwargs else func(*args)
    for name in (
        "functions",
        "places",
        "tensors",
        "storages",
        "graves",
        "layouts",
        "nodes",
        "node_types",
        "accumulators",
    ):
        space[name] = {}
    for name in ("ops", "uses", "tensor_rows", "storage_rows", "node_rows", "edge_rows", "saved"):
        space[name] = []
    for name in ("dead", "tensor_deaths", "storage_deaths"):
        space[name] = []
    space["entomb"] = space["dead"].append
    space["count"] = [0, 0, 0, 0]

    def describe(kind: type) -> tuple[int, tuple[tuple[str, int], ...]]:
        names = tuple((name, 0) for name in dir(kind) if name.startswith("_saved_") and hasattr(kind, "_raw" + name))
        space["node_types"][kind] = (len(space["node_types"]), names)
        return space["node_types"][kind]

    def first_seen(tensor: Tensor, op: int) -> None:
        space["tensors"][id(tensor)] = (space["count"][3], 0, tensor.nbytes, -1, tensor.requires_grad, 0, None)
        space["count"][3] += 1
        space["accumulators"][id(tensor)] = space["count"][2]
        space["count"][2] += 1

    space["describe"], space["first_seen"] = describe, first_seen
    return space


def climb(rounds: int) -> list[tuple[str, float, float]]:
    """Time every step: what it adds, its ratio to bare, and nanoseconds of CPU time an op on top of bare."""
    contestants: dict[str, Any] = {"bare": nullcontext}
    contestants |= {str(step): partial(mode_of, step) for step in range(len(STEPS))}
    torch.set_num_threads(1)
    timings = interleave(multiplications(), contestants, rounds, calls=5)
    bare = min(timings["bare"].cpu)
    best = [min(timings[str(step)].cpu) for step in range(len(STEPS))]
    return [(title, cpu / bare, (cpu - bare) / CHAIN * 1e9) for title, cpu in zip(STEPS, best, strict=True)]

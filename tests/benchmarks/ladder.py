"""What each fact costs in pure Python: function modes that record one fact more each, and gradscope beside them.

Run ``python -m tests.benchmarks --only ladder``. Each step's mode is the text below with the lines of later steps left
out, so that nothing of theirs is paid, not even an ``if``. It calls no Python function but the one through which the
program's call is made: it is the floor for these facts in Python, whatever the code around them looks like.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode

from gradscope.recorder.state.identity import Seen, SeenStorage
from tests.benchmarks.competitors import gradscope
from tests.benchmarks.measure import best_plain, interleave
from tests.benchmarks.workloads import Workload

STEPS = (
    "no-op function mode",
    "function looked up, the user's frame and instruction, call in the caller's name",
    "grad, inference and autocast mode, saved-tensor hooks",
    "op row, inputs by identity",
    "result: weak reference, its death, tensor row",
    "layout: shape, stride, dtype, device",
    "storage: weak reference, its death, bytes, address, row",
    "requires_grad, grad_fn, node row",
    "edges",
    "saved tensors",
    "a lock around the rows, an except around the whole",
    "a view's base and offset",
    "each leaf's gradient before and after a backward pass",
)

# Each line ends with the step from which it is there; "4-6": only in steps 4 to 6.
_TEXT = """
def __torch_function__(self, func, types, args=(), kwargs=None):                        # 0
    return func(*args, **(kwargs or {}))                                                # 0-0
    info = functions.get(func)                                                          # 1
    if info is None:                                                                    # 1
        info = functions[func] = (len(functions), 0, func.__name__ in reads)            # 1
    if info[2]:                                                                         # 1
        return func(*args)                                                              # 1
    frame = getframe(1)                                                                 # 1
    while id(frame.f_code) not in users:                                                # 1
        frame = frame.f_back                                                            # 1
    key = (id(frame.f_code), frame.f_lasti)                                             # 1
    place = places.get(key)                                                             # 1
    if place is None:                                                                   # 1
        place = places[key] = (call, len(places))                                       # 1
    since = next_sequence()                                                             # 1
    before = ()                                                                         # 12
    if func is backward:                                                                # 12
        before = []                                                                     # 12
        for row, leaf in leaves:                                                        # 12
            grad = leaf().grad                                                          # 12
            version = -1 if grad is None else grad._version                             # 12
            before.append((row, leaf, id(grad), version))                               # 12
        grad = None                                                                     # 12
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
            gone = dead.pop()                                                           # 4
            if type(gone) is Seen:                                                      # 4
                del tensors[gone.key]                                                   # 4
                tensor_deaths.append(gone.row)                                          # 4
            else:                                                                       # 6
                del storages[gone.key]                                                  # 6
                storage_deaths.append(gone.row)                                         # 6
        flags = grad_mode() | inference_mode() << 1 | autocast() << 2                   # 2
        if saved_hooks(True) is not None:                                               # 2
            flags |= 8                                                                  # 2
        op = count[0]                                                                   # 3
        count[0] = op + 1                                                               # 3
        ops.extend((info[0], info[1], place[1], -1, 0, flags, 1))                       # 3
        for value in args:                                                              # 3
            seen = tensors.get(id(value))                                               # 3
            if seen is not None:                                                        # 3
                uses.extend((op, seen.row))                                             # 3
            elif type(value) in kinds:                                                  # 3
                first_seen(value, op)                                                   # 3
        outcome = result if type(result) is tuple else (result,)                        # 4
        if before:                                                                      # 12
            outcome = []                                                                # 12
            for row, leaf, identity, version in before:                                 # 12
                grad = leaf().grad                                                      # 12
                outcome.append(grad)                                                    # 12
                is_same = id(grad) == identity                                          # 12
                gradients.extend((op, row, is_same, version, grad._version))            # 12
        for made in outcome:                                                            # 4
            if type(made) is not Tensor or id(made) in tensors:                         # 4
                continue                                                                # 4
            layout_key = (made.shape, made.stride(), made.dtype, made.device)           # 5
            layout = layouts.get(layout_key)                                            # 5
            if layout is None:                                                          # 5
                layout = layouts[layout_key] = (len(layouts), made.nbytes)              # 5
            layout = (0, 16)                                                            # 4-4
            storage = 0                                                                 # 4-5
            block = made.untyped_storage()                                              # 6
            known = storages.get(id(block))                                             # 6
            if known is None:                                                           # 6
                storage = count[1]                                                      # 6
                count[1] = storage + 1                                                  # 6
                known = SeenStorage(block, entomb)                                      # 6
                known.row = storage                                                     # 6
                known.key = id(block)                                                   # 6
                storages[known.key] = known                                             # 6
                storage_rows.extend((op, block.nbytes(), block.data_ptr(), -1, 0))      # 6
            else:                                                                       # 6
                storage = known.row                                                     # 6
                for value in args:                                                      # 11
                    seen = tensors.get(id(value))                                       # 11
                    if seen is not None and seen.storage == storage:                    # 11
                        offset = made.storage_offset()                                  # 11
                        aliases.extend((count[3], seen.row, offset, made._is_view()))   # 11
                        break                                                           # 11
            node = -1                                                                   # 4
            requires_grad = False                                                       # 4-6
            requires_grad = made.requires_grad                                          # 7
            if requires_grad:                                                           # 7
                grad_fn = made.grad_fn                                                  # 7
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
                        todo = [(grad_fn, node, kind)]                                  # 8
                        while todo:                                                     # 8
                            current, at, kind = todo.pop()                              # 8
                            for following, _ in current.next_functions:                 # 8
                                if following is None:                                   # 8
                                    edge_rows.extend((at, -1))                          # 8
                                    continue                                            # 8
                                number = following._sequence_nr()                       # 8
                                if number < no_sequence:                                # 8
                                    target = nodes.get(number)                          # 8
                                else:                                                   # 8
                                    target = accumulators.get(id(following.variable))   # 8
                                if target is None:                                      # 8
                                    target = count[2]                                   # 8
                                    count[2] = target + 1                               # 8
                                    kind_of = node_types.get(type(following))           # 8
                                    if kind_of is None:                                 # 8
                                        kind_of = describe(type(following))             # 8
                                    node_rows.extend((op, kind_of[0], -1))              # 8
                                    if number < no_sequence:                            # 8
                                        nodes[number] = target                          # 8
                                        todo.append((following, target, kind_of))       # 8
                                    else:                                               # 8
                                        accumulators[id(following.variable)] = target   # 8
                                edge_rows.extend((at, target))                          # 8
                            if current._sequence_nr() >= since and not flags & 8:       # 9
                                for name, text in kind[1]:                              # 9
                                    value = getattr(current, name)                      # 9
                                    seen = tensors.get(id(value))                       # 9
                                    if seen is not None:                                # 9
                                        row = seen.row                                  # 9
                                        saved.extend((at, text, seen.storage, row, seen.nbytes))# 9
                                    elif type(value) in kinds:                          # 9
                                        block = value.untyped_storage()                 # 9
                                        known = storages.get(id(block))                 # 9
                                        if known is None:                               # 9
                                            kept = count[1]                             # 9
                                            count[1] = kept + 1                         # 9
                                            known = SeenStorage(block, entomb)          # 9
                                            known.row = kept                            # 9
                                            known.key = id(block)                       # 9
                                            storages[known.key] = known                 # 9
                                            size, address = block.nbytes(), block.data_ptr()# 9
                                            storage_rows.extend((op, size, address, -1, 0))# 9
                                        else:                                           # 9
                                            kept = known.row                            # 9
                                        saved.extend((at, text, kept, -1, value.nbytes)) # 9
            row = count[3]                                                              # 4
            count[3] = row + 1                                                          # 4
            tensor_rows.extend((op, storage, layout[0], node, requires_grad, -1))       # 4
            seen = Seen(made, entomb)                                                   # 4
            seen.key, seen.row, seen.storage = id(made), row, storage                   # 4
            seen.layout, seen.nbytes = layout                                           # 4
            seen.node, seen.requires_grad = node, requires_grad                         # 4
            tensors[seen.key] = seen                                                    # 4
        if len(ops) > 28000:                                                            # 3
            for rows in (ops, uses, tensor_rows, storage_rows, node_rows, edge_rows, saved): # 3
                rows.clear()                                                            # 3
    except Exception:                                                                   # 10
        raise                                                                           # 10
    finally:                                                                            # 10
        lock.release()                                                                  # 10
    return result                                                                       # 2
"""


def mode_of(step: int, work: Callable[[], None]) -> TorchFunctionMode:
    """A function mode that records the facts of all steps up to the given one, for the work's own code."""
    lines = []
    for line in _TEXT.strip().splitlines():
        code, _, steps = line.rpartition("#")
        first, _, last = steps.strip().partition("-")
        if int(first) <= step <= int(last or len(STEPS)):
            lines.append(code.rstrip())
    space = _state() | {"users": {id(work.__code__)}}
    exec("\n".join(lines), space)
    kind = type("Step", (TorchFunctionMode,), {"__torch_function__": space["__torch_function__"]})
    mode: TorchFunctionMode = kind()
    return mode


def _state() -> dict[str, Any]:
    """The names that the text uses: torch's functions, and empty tables."""
    space: dict[str, Any] = {"Tensor": Tensor, "getframe": sys._getframe, "lock": threading.RLock()}
    space["Seen"], space["SeenStorage"] = Seen, SeenStorage
    space["kinds"] = frozenset((Tensor, Parameter))
    space["reads"] = frozenset(("__get__", "dim", "size"))
    space["backward"] = Tensor.backward
    autograd = torch._C._autograd
    space["no_sequence"] = 2**63
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
        "layouts",
        "nodes",
        "node_types",
        "accumulators",
    ):
        space[name] = {}
    for name in (
        *("ops", "uses", "tensor_rows", "storage_rows", "node_rows", "edge_rows", "saved", "aliases", "gradients"),
        *("dead", "tensor_deaths", "storage_deaths", "leaves"),
    ):
        space[name] = []
    space["entomb"] = space["dead"].append
    space["count"] = [0, 0, 0, 0]

    def describe(kind: type) -> tuple[int, tuple[tuple[str, int], ...]]:
        names = tuple((name, 0) for name in dir(kind) if name.startswith("_saved_") and hasattr(kind, "_raw" + name))
        space["node_types"][kind] = (len(space["node_types"]), names)
        return space["node_types"][kind]

    def first_seen(tensor: Tensor, op: int) -> None:
        seen = space["tensors"][id(tensor)] = Seen(tensor)
        seen.key, seen.row, seen.storage, seen.layout = id(tensor), space["count"][3], 0, 0
        seen.nbytes, seen.node, seen.requires_grad = tensor.nbytes, -1, tensor.requires_grad
        if tensor.requires_grad:
            space["leaves"].append((seen.row, seen))
        space["count"][3] += 1
        space["accumulators"][id(tensor)] = space["count"][2]
        space["count"][2] += 1

    space["describe"], space["first_seen"] = describe, first_seen
    return space


@dataclass(frozen=True)
class Step:
    """What a mode costs that records so much."""

    records: str
    ratio: float
    """To bare work, by CPU time, median of the rounds."""
    over_bare: float
    """Seconds of CPU time that one call of the work takes more, where bare work takes its best time."""


def climb(workload: Workload, rounds: int) -> list[Step]:
    """Time every step on a workload, and gradscope itself, which records more."""
    work = workload.prepare()
    contexts: dict[str, Any] = {title: partial(mode_of, step, work) for step, title in enumerate(STEPS)}
    contexts["gradscope, all it records"] = gradscope
    torch.set_num_threads(1)
    timings = interleave(work, contexts, rounds, workload.calls)
    bare = best_plain(timings).cpu
    ratios = {title: times.ratios().median_cpu for title, times in timings.items()}
    return [Step(title, ratio, (ratio - 1) * bare) for title, ratio in ratios.items()]

"""The collectives of ``torch.distributed``: how they are called, what they write, and in which group they ran.

Autograd knows nothing of them: no result has a ``grad_fn``, and many leave the version counter of what they write as it
was (measured on torch 2.13.0, gloo: ``all_reduce``, ``broadcast``, ``reduce``, ``scatter``, ``all_to_all_single``,
``recv``; the others raise it).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import FrameType
from typing import Any

from torch import distributed

from gradscope.recorder.torch_internals.uncounted_writes import Uncounted

_MODULE = "torch.distributed.distributed_c10d."
FUNCTIONAL = ("torch._ops._c10d_functional.", "torch.ops._c10d_functional.", "torch._ops._c10d_functional_autograd.")
_BESIDE = frozenset(("c10d_logger.py", "typing_extensions.py"))
"""Files of what logs a call, or warns that it is old, and hands it on."""
_ALIASES = frozenset(("reduce_scatter_tensor", "all_gather_into_tensor", "_all_gather_base"))
"""Older names: functions that call another one and do nothing else."""

WHOLE = frozenset(
    f"torch.{name}"
    for name in (
        "all_gather_object",
        "gather_object",
        "scatter_object_list",
        "broadcast_object_list",
        "send_object_list",
        "recv_object_list",
    )
)
"""What torch's own Python does by several collectives, and is one call."""

_DEPTH = 10
"""Frames between such a function and what observes a collective that it calls, at most."""

ALWAYS = ("name", "shape", "dtype", "at")
"""What a detail says of every call, and is kept of those only that do not return."""

_FIRST = {
    "all_reduce": "tensor",
    "broadcast": "tensor",
    "reduce": "tensor",
    "scatter": "tensor",
    "recv": "tensor",
    "irecv": "tensor",
    "all_reduce_coalesced": "tensors",
    "all_gather": "tensor_list",
    "all_gather_single": "output_tensor",
    "all_gather_into_tensor": "output_tensor",
    "all_gather_coalesced": "output_tensor_lists",
    "reduce_scatter": "output",
    "reduce_scatter_single": "output",
    "reduce_scatter_tensor": "output",
    "all_to_all": "output_tensor_list",
    "all_to_all_single": "output",
}
"""Those that write their first argument."""
WRITES = {
    **{f"dist.{name}": Uncounted(((0, argument),)) for name, argument in _FIRST.items()},
    "dist.gather": Uncounted(((1, "gather_list"),)),
    "dist.gather_single": Uncounted(((1, "gather_list"),)),
}
_READ_ONLY = frozenset(("dist.send", "dist.isend"))


def collective_name(name: str) -> str:
    """``dist.all_reduce`` for the full name of a collective, ``funcol.all_reduce`` for one that gives its result and
    writes nothing; empty for any other function."""
    if name.startswith(_MODULE):
        public = f"dist.{name[len(_MODULE) :]}"
        return public if public in WRITES or public in _READ_ONLY else ""
    if not name.startswith(FUNCTIONAL) or ".wait_tensor" in name or "._" in name.partition("functional")[2]:
        return ""
    return f"funcol.{name.partition('functional')[2].partition('.')[2].partition('.')[0]}"


def whole_of(frame: FrameType) -> str:
    """The name of the function of :data:`WHOLE` that a collective is a part of, given a frame inside the collective;
    empty where it is none's."""
    current: FrameType | None = frame
    for _ in range(_DEPTH):
        if current is None:
            return ""
        code = current.f_code
        if f"torch.{code.co_name}" in WHOLE and code.co_filename.endswith("distributed_c10d.py"):
            return f"torch.{code.co_name}"
        current = current.f_back
    return ""


def caller_of(frame: FrameType) -> FrameType:
    """The frame that called a collective, given the one above the collective's own, which may only hand it on."""
    current = frame
    while _hands_on(current) and current.f_back is not None:
        current = current.f_back
    return current


def _hands_on(frame: FrameType) -> bool:
    code = frame.f_code
    file = code.co_filename.replace("\\", "/").rpartition("/")[2]
    return file in _BESIDE or (file == "distributed_c10d.py" and code.co_name in _ALIASES)


def detail_of(name: str, kwargs: Any, tensors: Sequence[Any]) -> dict[str, Any]:
    """What a call is, and what is special of it: see ``EventKind.COLLECTIVE``."""
    first = tensors[0] if tensors else None
    shape = "" if first is None else str(tuple(first.shape))
    dtype = "" if first is None else str(first.dtype).removeprefix("torch.")
    detail: dict[str, Any] = {"name": name, "shape": shape, "dtype": dtype}
    kwargs = kwargs or {}
    group = kwargs.get("group")
    if group is not None and group is not distributed.group.WORLD:
        ranks = _ranks_of(group)
        if ranks is not None and len(ranks) < distributed.get_world_size():
            detail["group"] = ranks
    if kwargs.get("async_op") or name in ("dist.isend", "dist.irecv"):
        detail["async"] = True
    for key in ("src", "dst"):
        if isinstance(kwargs.get(key), int):
            detail[key] = kwargs[key]
        elif isinstance(kwargs.get(f"group_{key}"), int):
            detail[key] = _global_rank(group, kwargs[f"group_{key}"])
    if isinstance(kwargs.get("tag"), int) and kwargs["tag"]:
        detail["tag"] = kwargs["tag"]
    how = kwargs.get("op")
    if how is not None and how != distributed.ReduceOp.SUM:
        detail["op"] = str(how).rpartition(".")[2].lower()
    return detail


def _global_rank(group: Any, number: int) -> int:
    """A rank as all know it, of a number in a group."""
    ranks = None if group is None else _ranks_of(group)
    return ranks[number] if ranks is not None and number < len(ranks) else number


def _ranks_of(group: Any) -> list[int] | None:
    try:
        return list(distributed.get_process_group_ranks(group))
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        return None  # no group of this process's

"""What a result was computed from, step by step, by calls that take one tracked tensor and otherwise constants."""

from __future__ import annotations

from collections.abc import Collection

from gradscope.analysis.index import Index

AS_IT_IS = frozenset(
    """
    view reshape flatten squeeze unsqueeze transpose permute contiguous __getitem__ float double to type t movedim
    clone unflatten swapaxes type_as expand expand_as
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Functions that leave the values as they are."""


def called(index: Index, op: int) -> str:
    """The last part of the name of what an op calls, without what stands for an operator: ``add`` for ``__radd__``."""
    return plain_name(index.func(op))


def plain_name(func: str) -> str:
    """The same of a function's whole name."""
    name = func.rpartition(".")[2].removesuffix("_")
    return name.strip("_").removeprefix("r") if name.startswith("__r") else name.strip("_") if "__" in name else name


def maker(index: Index, tensor: int) -> int:
    """The op that made a tensor, or -1."""
    op = index.made_by(tensor)
    return op if 0 <= op < index.op_count else -1


def tracked_uses(index: Index, op: int) -> list[int]:
    """What an op took that required grad."""
    return [one for one in index.uses.of(op) if index.requires_grad(one, op)]


def below(index: Index, tensor: int, names: Collection[str], steps: int = 12) -> int:
    """The tensor that one comes from by calls of some names, each of which took one tracked tensor first of all.

    Args:
        index: Of the recording.
        tensor: Where to start.
        names: As :func:`called` gives them.
        steps: Calls that are followed.
    """
    for _ in range(steps):
        op = maker(index, tensor)
        if op < 0 or called(index, op) not in names:
            return tensor
        taken = tracked_uses(index, op)
        if not taken:
            return tensor
        tensor = taken[0]
    return tensor

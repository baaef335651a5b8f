"""Whether a call that writes element by element reads, in the order in which it goes, what it has written already.

Measured with torch 2.13 on the CPU: the dimensions are sorted by the strides of what is written, those that can be one
in all operands are made one, and the elements are written in that order. The innermost dimension is taken in blocks,
each read before it is written, if its elements lie side by side; a single number that is taken with all of them is read
once for all whole blocks. How long a block is depends on the machine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import product
from types import EllipsisType
from typing import NamedTuple

SURE = 1 << 14
"""Elements that one thread surely writes one after the other, from the first on."""
_BLOCKS_OF_X86 = (64, 128)
"""Bytes that a block may have: torch takes registers of 32 bytes where there are none, and has some of 64."""
_BLOCKS = (16, 32, *_BLOCKS_OF_X86)


class Laid(NamedTuple):
    """How a tensor lies on its memory, in elements."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


def part_of(laid: Laid, indices: Sequence[int | slice | EllipsisType]) -> Laid | None:
    """What a tensor gives for some indices; None where they do not fit."""
    shape, stride, offset = list[int](), list[int](), laid.offset
    given = list(indices)
    at = given.index(...) if ... in given else len(given)
    missing = len(laid.shape) - len(given) + (at < len(given))
    if missing < 0 or len(laid.shape) != len(laid.stride):
        return None
    given[at : at + 1] = [slice(None)] * missing
    for size, step, one in zip(laid.shape, laid.stride, given, strict=True):
        if isinstance(one, slice):
            if one.step is not None and one.step < 1:
                return None
            inside = range(size)[one]
            shape.append(len(inside))
            stride.append(step * inside.step)
            offset += inside.start * step
        elif isinstance(one, int) and -size <= one < size:
            offset += one % size * step
        else:
            return None
    return Laid(tuple(shape), tuple(stride), offset)


def blocks(platform: str, itemsize: int) -> frozenset[int]:
    """Lengths in elements that a block may have on a machine; 1 among them, since not all calls take blocks."""
    taken = _BLOCKS_OF_X86 if "x86_64" in platform else _BLOCKS
    return frozenset((1, *(max(1, length // itemsize) for length in taken)))


def reads_written(written: Laid, read: Laid, lengths: Collection[int], *, is_copy: bool = False) -> bool:
    """Whether an element is read after it was written with another value, whatever the length of a block.

    Args:
        written: What the call writes.
        read: What it takes as well, on the same memory; it is broadcast to what is written.
        lengths: Those that a block may have, in elements.
        is_copy: Whether the call writes what it reads as it is: an element that is copied onto itself stays the same.
    """
    dims = _dimensions(written, read)
    if dims is None or not dims:
        return False
    return all(_is_read_late(dims, read.offset - written.offset, block, is_copy) for block in lengths)


class _Dim(NamedTuple):
    size: int
    out: int
    """The stride of what is written."""
    into: int
    """The stride of what is read."""


def _dimensions(written: Laid, read: Laid) -> list[_Dim] | None:
    """The dimensions that torch goes through, the innermost first; None where elements of the output overlap."""
    missing = len(written.shape) - len(read.shape)
    if missing < 0 or len(written.shape) != len(written.stride) or len(read.shape) != len(read.stride):
        return None
    sizes = (*([1] * missing), *read.shape)
    steps = (*([0] * missing), *read.stride)
    dims = []
    for size, out, other, step in zip(written.shape, written.stride, sizes, steps, strict=True):
        if other not in (1, size) or not size:
            return None
        if size > 1:
            dims.append(_Dim(size, out, step if other > 1 else 0))
    dims.sort(key=lambda dim: dim.out)
    reach = 0
    merged = list[_Dim]()
    for dim in dims:
        if dim.out <= reach:
            return None
        reach += (dim.size - 1) * dim.out
        last = merged[-1] if merged else None
        if last is not None and last.out * last.size == dim.out and last.into * last.size == dim.into:
            merged[-1] = _Dim(last.size * dim.size, last.out, last.into)
        else:
            merged.append(dim)
    return merged


def _is_read_late(dims: list[_Dim], offset: int, block: int, is_copy: bool) -> bool:
    inner = dims[0]
    is_once = inner.into == 0 and inner.out == 1
    in_blocks = block > 1 and inner.out == 1 and inner.into in (0, 1)
    whole = inner.size // block * block if in_blocks else 0
    for place in _places(dims, block):
        slot = _slot(dims, offset + sum(at * dim.into for at, dim in zip(place, dims, strict=True)))
        if slot is None or slot[::-1] >= place[::-1]:
            continue
        if is_copy and offset + sum(at * (dim.into - dim.out) for at, dim in zip(slot, dims, strict=True)) == 0:
            continue
        is_same_row = slot[1:] == place[1:]
        if is_same_row and place[0] < whole and (is_once or slot[0] // block == place[0] // block):
            continue
        return True
    return False


def _places(dims: list[_Dim], block: int) -> Iterator[tuple[int, ...]]:
    """Some of the elements: those at the ends, in the middle and next to these, and at the ends of blocks."""
    at_ends = [sorted({0, 1, dim.size // 2, dim.size - 1}) for dim in dims]
    last = dims[0].size - dims[0].size % block
    near = {0, 1, block - 1, block, block + 1, last - 1, last, last + 1, dims[0].size - 2}
    at_ends[0] = sorted({at for at in (*at_ends[0], *near) if 0 <= at < dims[0].size})
    for place in product(*at_ends):
        number, count = 0, 1
        for at, dim in zip(place, dims, strict=True):
            number, count = number + at * count, count * dim.size
        # Later elements may be another thread's, and the end of its part lies somewhere in a row.
        if number + dims[0].size < SURE:
            yield place


def _slot(dims: list[_Dim], address: int) -> tuple[int, ...] | None:
    """Where among what is written an address is; None for one that is not written."""
    place = list[int]()
    for dim in reversed(dims):
        at, address = divmod(address, dim.out)
        if not 0 <= at < dim.size:
            return None
        place.append(at)
    return None if address else tuple(reversed(place))

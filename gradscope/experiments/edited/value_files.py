"""Values of tensors kept in a file of the run's: a digest of each, and the elements as far as there is room."""

from __future__ import annotations

import ctypes
import hashlib
from io import BufferedWriter
from pathlib import Path

import torch
from torch import Tensor

from gradscope.recording.kept_values import Difference, KeptValue

ROOM = 256 * 1024 * 1024
"""Bytes of elements that one run keeps."""

_FILE = "values.bin"


class ValueWriter:
    """Keeps values of one run.

    Args:
        folder: Where the elements go; None: only digests are kept.
        room: Bytes of elements that are kept.
    """

    def __init__(self, folder: Path | None, room: int = ROOM) -> None:
        self._file: BufferedWriter | None = (folder / _FILE).open("wb") if folder is not None else None
        self._room = room if folder is not None else 0
        self._offset = 0

    def keep(self, tensor: Tensor) -> KeptValue | None:
        """Keep a tensor as it is now; None for one whose elements cannot be read as they are (sparse, nested, meta)."""
        try:
            plain = tensor.detach().to("cpu").contiguous().resolve_conj().resolve_neg()
            nbytes = plain.numel() * plain.element_size()
            data = ctypes.string_at(plain.data_ptr(), nbytes) if nbytes else b""
            norm = float(torch.linalg.vector_norm(plain.to(_wide(plain))).item())
        except (RuntimeError, NotImplementedError, TypeError):
            return None
        described = f"{plain.dtype} {tuple(plain.shape)}"
        digest = hashlib.blake2b(data, digest_size=16, key=described.encode()[:64]).hexdigest()
        return KeptValue(digest, str(plain.dtype), tuple(plain.shape), norm, self._written(data), nbytes)

    def _written(self, data: bytes) -> int:
        offset = self._offset
        if self._file is None or offset + len(data) > self._room:
            return -1
        self._file.write(data)
        self._offset = offset + len(data)
        return offset

    def close(self) -> None:
        """Everything is in the file."""
        if self._file is not None:
            self._file.close()


class KeptFile:
    """The elements that one run has kept.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE

    def read(self, value: KeptValue) -> Tensor | None:
        """The elements in double precision; None where they were not kept."""
        if value.offset < 0 or not self._path.exists():
            return None
        if not value.nbytes:
            return torch.zeros(0, dtype=torch.float64)
        with self._path.open("rb") as file:
            file.seek(value.offset)
            data = bytearray(file.read(value.nbytes))
        if len(data) < value.nbytes:
            return None
        plain = torch.frombuffer(data, dtype=getattr(torch, value.dtype.removeprefix("torch.")))
        return plain.to(_wide(plain))


def difference(one: KeptValue, other: KeptValue, files: tuple[KeptFile, KeptFile]) -> Difference:
    """How far one tensor is off from another.

    Args:
        one: A tensor of the first file's run.
        other: What it is compared with, of the second file's.
        files: The elements of both.
    """
    if one.digest == other.digest:
        return Difference(True, 0.0, 0.0)
    if one.shape != other.shape:
        return Difference(False, None, None)
    elements = [file.read(value) for file, value in zip(files, (one, other), strict=True)]
    if any(found is None for found in elements):
        return Difference(False, None, None)
    mine, its = (found for found in elements if found is not None)
    largest = float((mine - its).abs().max().item())
    scale = float(its.abs().max().item())
    return Difference(False, largest, largest / scale if scale else None)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.complex128 if tensor.is_complex() else torch.float64

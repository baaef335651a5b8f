"""What graph nodes keep for backward at this moment, read without running a saved-tensor hook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from gradscope.recorder.torch_internals.capabilities import saved_hooks_were_used, saved_tensors_tell_hooks

_RAW = "_raw_saved_"
_SAVED = "_saved_"
_attributes: dict[type, tuple[str, ...]] = {}
"""Of nodes of torch's own."""


def saved_storages(nodes: Iterable[Any]) -> dict[int, int]:
    """Bytes of each memory block that the nodes keep, by its address as an object."""
    found: dict[int, int] = {}
    for node in nodes:
        for tensor in _kept(node):
            try:
                storage = tensor.untyped_storage()
            except (RuntimeError, NotImplementedError):  # no storage of its own: sparse, functorch wrapper
                found[id(tensor)] = tensor.numel() * tensor.element_size()
            else:
                found[storage._cdata] = storage.nbytes()
    return found


def saves_without_hooks(node: Any) -> bool:
    """Whether what a node keeps can be read without running a saved-tensor hook; False where that is not known."""
    if not saved_tensors_tell_hooks:
        return not saved_hooks_were_used()
    kind = type(node)
    attributes = (_RAW + "tensors",) if hasattr(kind, "_forward_cls") else _attributes.get(kind)
    if attributes is None:
        attributes = _attributes[kind] = tuple(name for name in dir(kind) if name.startswith(_RAW))
    for attribute in attributes:
        try:
            raw = getattr(node, attribute)
        except RuntimeError:  # freed
            return False
        saved = raw if isinstance(raw, (tuple, list)) else (raw,)
        if any(item is not None and item.unpack_hook is not None for item in saved):
            return False
    return True


def _kept(node: Any) -> Iterator[Tensor]:
    """The tensors that a node keeps: its saved tensors, and what a user's Function has put into its ctx."""
    for attribute in dir(type(node)):
        if attribute.startswith(_RAW):
            yield from _unpacked(node, attribute)
    if hasattr(type(node), "_forward_cls"):
        for value in vars(node).values():
            if isinstance(value, Tensor):
                yield value


def _unpacked(node: Any, attribute: str) -> Iterator[Tensor]:
    try:
        raw = getattr(node, attribute)
    except RuntimeError:  # a user's Function whose saved tensors were freed
        return
    saved = raw if isinstance(raw, (tuple, list)) else (raw,)
    if saved and not hasattr(saved[0], "unpack_hook"):
        yield from _read(node, attribute)
        return
    for item in saved:
        if item is not None and item.unpack_hook is None and isinstance(item.data, Tensor):
            yield item.data


def _read(node: Any, attribute: str) -> Iterator[Tensor]:
    """Older torch cannot say whether a hook belongs to a saved tensor: it is read where there was no hook at all."""
    if saved_hooks_were_used():
        raise RuntimeError(f"torch {torch.__version__} cannot tell what is saved behind saved-tensor hooks")
    name = "saved_tensors" if attribute == _RAW + "tensors" else attribute.replace(_RAW, _SAVED, 1)
    try:
        value = getattr(node, name)
    except RuntimeError:  # freed by backward, or written to since
        return
    for item in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(item, Tensor):
            yield item

"""Names of tensors as paths: what ``net.0.weight``, ``net[0].weight`` and ``d['net'][0].weight`` have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch

Path = tuple[str, ...]

DEPTH = 5
"""Parts of a name beyond which nothing is looked for."""

_STANDS_FOR_ANOTHER = (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)

_PART = re.compile(r"\[\s*['\"]?([^\]'\"]*)['\"]?\s*\]|([^.\[\]]+)")


def path_of(name: str) -> Path | None:
    """The path of a name; None for what is no name (``<x.detach()>``, ``old w``)."""
    if not name or name.startswith("<") or " " in name or "(" in name:
        return None
    return tuple(item or attribute for item, attribute in _PART.findall(name))


def tensors_in(namespace: dict[str, Any]) -> Iterator[tuple[Path, torch.Tensor]]:
    """Every tensor that a namespace leads to by containers, modules and the program's own objects."""
    for name, value in namespace.items():
        if not name.startswith("__"):
            yield from _below((name,), value)


def _below(path: Path, value: Any) -> Iterator[tuple[Path, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
    elif len(path) >= DEPTH or isinstance(value, torch.jit.ScriptModule):
        return
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _below((*path, str(number)), item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _below((*path, str(key)), item)
    elif isinstance(value, torch.nn.Module):
        held = vars(value)  # a module whose __init__ has not run yet has none of the three
        if isinstance(value, _STANDS_FOR_ANOTHER):  # which is called as if it was not there
            yield from _below(path, value.module)
        for kind in ("_parameters", "_buffers", "_modules"):
            for key, item in held.get(kind, {}).items():
                yield from _below((*path, key), item)
        for key, item in held.items():
            if not key.startswith("_") and key != "training":
                yield from _below((*path, key), item)
    elif type(value).__module__ == "__main__" and hasattr(value, "__dict__"):
        for key, item in vars(value).items():
            yield from _below((*path, key), item)

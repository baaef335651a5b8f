"""Which tensors a hook refers to: by the variables of functions around it, its defaults, and what it is bound to.

A hook on a result of an operation is kept by the node of the graph. Where it refers to that result, or to one that was
made from it, each keeps the other, and Python's collector does not see the way through the graph.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from torch import Tensor

from gradscope.recorder.naming.instance_attributes import attributes_of

ITEMS = 64
"""Items of a list or dict that are looked at."""


def tensors_referred(hook: Any) -> Iterator[tuple[str, Any]]:
    """Names and tensors, also those in a list or dict that it refers to; no code of the program's runs."""
    for name, value in _referred(hook):
        if issubclass(type(value), Tensor):
            yield name, value
        elif type(value) in (list, tuple):
            yield from ((name, one) for one in value[:ITEMS] if issubclass(type(one), Tensor))
        elif type(value) is dict:
            yield from ((name, one) for one in list(value.values())[:ITEMS] if issubclass(type(one), Tensor))


def _referred(hook: Any) -> Iterator[tuple[str, Any]]:
    if type(hook) is functools.partial:
        yield from (("", value) for value in hook.args)
        yield from hook.keywords.items()
        yield from _referred(hook.func)
    elif type(hook) is MethodType:
        yield from _attributes(hook.__self__)
        yield from _referred(hook.__func__)
    elif type(hook) is FunctionType:
        for name, cell in zip(hook.__code__.co_freevars, hook.__closure__ or (), strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        yield from (("", value) for value in hook.__defaults__ or ())
        yield from (hook.__kwdefaults__ or {}).items()
    else:
        yield from _attributes(hook)


def _attributes(value: Any) -> list[tuple[str, Any]]:
    return list(attributes_of(value).items())[:ITEMS]

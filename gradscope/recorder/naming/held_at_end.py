"""What the objects of a program hold when it ends: tensors in their attributes, lists and dicts, what hooks keep, and
what the frames refer to of errors that are kept, and of generators in containers that were not run to their end.

A statement names only what it reads. What ``self.outputs.append(output)`` keeps is read by no call of torch; at the end
it is found from the module's names. Only instance dictionaries, built-in containers and closures are looked into, so
that no code of the program's runs.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, GeneratorType, MethodType, SimpleNamespace
from typing import Any

from torch import Tensor, nn

from gradscope.frames.frame_locals import reading_locals
from gradscope.recorder.naming.held_in_logs import held_in_logs
from gradscope.recorder.naming.instance_attributes import attributes_of, is_one_of

ITEMS = 256
"""Items of one container, and attributes of one object, that are looked at."""
OBJECTS = 4096
"""Objects and containers that are looked into at most."""
DEPTH = 4
"""Steps from a module's name."""

_DICTS = (dict, OrderedDict, defaultdict)
_LISTS = (list, tuple, deque)
_PLAIN = (int, float, str, bool, bytes, type)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def held_at_end(namespace: Mapping[str, Any], is_user: Callable[[str], bool]) -> Iterator[tuple[str, Any]]:
    """Paths and tensors that are held by objects of the program's own classes, or in containers of containers.

    Args:
        namespace: The module's globals.
        is_user: Tells by file name whether code is the user's own.
    """
    seen: set[int] = set()
    todo: deque[tuple[str, Any, int]] = deque((name, value, 0) for name, value in list(namespace.items()))
    while todo and len(seen) < OBJECTS:
        path, value, depth = todo.popleft()
        kind = type(value)
        if issubclass(kind, Tensor):
            if depth:
                yield path, value
            continue
        if id(value) in seen or depth >= DEPTH:
            continue
        seen.add(id(value))
        parts = _parts(path, value, namespace, is_user)
        todo.extend((name, part, depth + 1) for name, part in parts if not _is_plain(part))
    yield from ((path, value) for path, value in held_in_logs() if issubclass(type(value), Tensor))


def _parts(
    path: str, value: Any, namespace: Mapping[str, Any], is_user: Callable[[str], bool]
) -> list[tuple[str, Any]]:
    kind = type(value)
    if is_one_of(kind, _DICTS):
        pairs = list(value.items())[:ITEMS]
        return [(f"{path}[{key!r}]", part) for key, part in pairs if type(key) in (str, int)]
    if is_one_of(kind, _LISTS):
        return [(f"{path}[{key}]", part) for key, part in enumerate(list(value)[:ITEMS])]
    if kind is MethodType:
        return [(path, value.__self__)]
    if kind is FunctionType:
        cells = value.__closure__ or ()
        names = zip(value.__code__.co_freevars, cells, strict=True)
        # (the names of a function of torch's, as torch.func.vjp gives one, are none of the program's)
        around = "" if is_user(value.__code__.co_filename) else f"{path}.__closure__."
        return [(f"{around}{name}", cell.cell_contents) for name, cell in names if _is_filled(cell)]
    if issubclass(kind, BaseException):
        return list(_in_traceback(path, value, is_user))[:ITEMS]
    if kind is GeneratorType:  # one that a name of the module holds is a loader that goes on
        return list(_in_generator(path, value, is_user))[:ITEMS] if "[" in path else []
    attributes = attributes_of(value)
    found = []
    if issubclass(kind, nn.Module):
        hooks = [hook for table in _HOOKS for hook in (attributes.get(table) or {}).values()]
        found += [(f"{path}.hook", hook) for hook in hooks]
        found += [(f"{path}.{name}", part) for name, part in (attributes.get("_modules") or {}).items()]
    if kind is SimpleNamespace or kind.__module__ == namespace.get("__name__") or is_user(_file_of(kind)):
        found += [(f"{path}.{name}", part) for name, part in list(attributes.items())[:ITEMS] if name[:1] != "_"]
    return found


def _in_traceback(path: str, error: BaseException, is_user: Callable[[str], bool]) -> Iterator[tuple[str, Any]]:
    """The local names of the functions that an error came through, but for the module's."""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_name != "<module>" and is_user(code.co_filename):
            with reading_locals(trace.tb_frame) as names:
                yield from [(f"{path}.__traceback__.{name}", value) for name, value in names.items()]
        trace = trace.tb_next


def _in_generator(path: str, generator: Any, is_user: Callable[[str], bool]) -> Iterator[tuple[str, Any]]:
    """The local names of a generator of the program's that is suspended."""
    frame = generator.gi_frame
    if frame is not None and is_user(frame.f_code.co_filename):
        with reading_locals(frame) as names:
            yield from [(f"{path}.gi_frame.{name}", value) for name, value in names.items()]


def _is_plain(value: Any) -> bool:
    return value is None or is_one_of(type(value), _PLAIN)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # not assigned yet
        return False


def _file_of(kind: type) -> str:
    """The file of the module that defines a class; empty where that is not known."""
    module = sys.modules.get(kind.__module__)
    file = vars(module).get("__file__") if module is not None else None
    return file if isinstance(file, str) else ""

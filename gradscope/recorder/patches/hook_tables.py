"""The table of a tensor's hooks that shows the program its own hooks, and hands autograd what stands for them.

Autograd reads the table as a dict, in C++; a program that looks for its hook in there (``if hook is mine``) asks by the
methods of Python's, which give the very object that was registered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import ItemsView, ValuesView
from typing import Any

from torch import Tensor
from torch._C import DisableTorchFunction

from gradscope.recorder.state.tensors_in import PLAIN


class StandIn:
    """Stands for a hook, and equals it."""

    __slots__ = ("__weakref__", "hook")

    def __init__(self, hook: Any) -> None:
        self.hook = hook

    def __eq__(self, other: object) -> bool:
        return bool(self.hook == original(other))

    def __hash__(self) -> int:
        return hash(self.hook)

    def __repr__(self) -> str:
        return repr(self.hook)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "hook"), name)


def original(hook: Any) -> Any:
    """The program's hook, of what may stand for one."""
    return hook.hook if isinstance(hook, StandIn) else hook


class HookTable(OrderedDict[int, Any]):
    """What ``OrderedDict`` is to the program, with stand-ins that it does not see."""

    __slots__ = ()

    def put_behind(self, key: int, stand_in: StandIn) -> None:
        """Let autograd call what stands for the hook of a key."""
        super().__setitem__(key, stand_in)

    def __getitem__(self, key: int) -> Any:
        return original(super().__getitem__(key))

    def get(self, key: int, default: Any = None) -> Any:
        """See ``dict.get``."""
        return original(super().get(key, default))

    def pop(self, key: int, *default: Any) -> Any:
        """See ``dict.pop``."""
        return original(super().pop(key, *default))

    def popitem(self, last: bool = True) -> tuple[int, Any]:
        """See ``OrderedDict.popitem``."""
        key, hook = super().popitem(last)
        return key, original(hook)

    def setdefault(self, key: int, default: Any = None) -> Any:
        """See ``dict.setdefault``."""
        return original(super().setdefault(key, default))

    def values(self) -> Any:
        """See ``dict.values``."""
        return ValuesView(self)

    def items(self) -> Any:
        """See ``dict.items``."""
        return ItemsView(self)

    def copy(self) -> Any:
        """See ``dict.copy``."""
        return OrderedDict(self.items())

    def __copy__(self) -> Any:
        return self.copy()

    def __reduce__(self) -> Any:
        return OrderedDict, (list(self.items()),)


HookTable.__name__ = HookTable.__qualname__ = OrderedDict.__name__
HookTable.__module__ = OrderedDict.__module__


def prepare(tensor: Any, attribute: str) -> None:
    """Give a tensor that has no table of hooks yet one of ours, as ``register_hook`` gives it a plain one."""
    if type(tensor) not in PLAIN:
        return
    with DisableTorchFunction():
        if not tensor.requires_grad or getattr(tensor, attribute) is not None:
            return
        node = tensor.grad_fn
        if attribute == "_backward_hooks":
            tensor._backward_hooks = HookTable()
            if node is not None:
                node._register_hook_dict(tensor)
        elif node is None:
            setattr(tensor, attribute, HookTable())


def table_of(tensor: Tensor, attribute: str) -> HookTable | None:
    """A tensor's table of hooks, if it is one of ours."""
    with DisableTorchFunction():
        table = getattr(tensor, attribute, None)
    return table if isinstance(table, HookTable) else None

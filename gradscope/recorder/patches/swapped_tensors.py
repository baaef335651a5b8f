"""``torch.utils.swap_tensors`` while a recorder is at work: it refuses tensors that somebody has weak references to.

The recorder's own are left out of what it finds, and once two tensors have been given each other's content, so is what
the recorder knows of it. Both are done where the function looks for them, so that it does not matter how a program came
by it: by name, by converting a module (``torch.__future__.set_swap_module_params_on_conversion``), or by loading one.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any, Protocol, cast

from torch._C import DisableTorchFunction

from gradscope.recorder.patches.threads import following
from gradscope.recorder.state.identity import Seen


class NotesSwaps(Protocol):
    """A recorder, as far as swapped tensors concern it."""

    def before_swap(self, pair: tuple[Any, Any]) -> bool:
        """Two tensors are about to change places; returns whether :meth:`after_swap` is due."""

    def after_swap(self, pair: tuple[Any, Any], frame: FrameType) -> None:
        """Two tensors have changed places, in a function that is the frame's."""


def _getweakrefs(tensor: Any) -> list[Any]:
    return [reference for reference in weakref.getweakrefs(tensor) if type(reference) is not Seen]


def without_ours() -> ModuleType:
    """The module ``weakref`` as ``torch.utils`` shall see it."""
    seen = ModuleType(weakref.__name__)
    seen.__dict__.update(vars(weakref) | {"getweakrefs": _getweakrefs})
    return seen


def noted(swap: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """What stands for the exchange itself."""

    def swaps(first: Any, second: Any) -> None:
        recorders = cast("list[NotesSwaps]", following())
        with DisableTorchFunction():
            concerned = [recorder for recorder in recorders if recorder.before_swap((first, second))]
        swap(first, second)
        with DisableTorchFunction():
            for recorder in concerned:
                recorder.after_swap((first, second), sys._getframe(1))

    return swaps

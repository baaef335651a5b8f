"""Whether hooks give, as the gradient, a tensor that one of their runs before made and gave already, as it was.

Known by identity: what is told apart here lives as long as the program keeps it, and is not kept by this.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

from torch import Tensor
from torch.compiler import is_dynamo_compiling

from gradscope.recorder.calls.observer import Observer
from gradscope.recorder.calls.shielded_observer import ShieldedObserver
from gradscope.recorder.state.tensors_in import PLAIN, version_of
from gradscope.recording.tables import NONE

_KNOWN = 256
"""Results that are known at a time; of hooks that keep more of them nothing is said."""


class GivenAgain:
    """Results of the hooks of one subject.

    Args:
        observer: It has a row for what was seen; what a hook makes inside a pass has none when it is first given.
    """

    def __init__(self, observer: Observer | ShieldedObserver) -> None:
        self._observer = observer
        self._given: dict[int, tuple[ref[Tensor], int]] = {}
        self._is_over = False
        self.times = 0
        """How often one was given again."""
        self.refreshed = 0
        """How often others were given after that: the hooks do so for a while only."""

    def note(self, gradient: Any, result: Any) -> None:
        """Note what a hook gave for a gradient."""
        if self._is_over or type(result) not in PLAIN or is_dynamo_compiling():
            return
        version, known = version_of(result), self._given.get(id(result))
        if known is not None and known[0]() is result:
            if known[1] != version:
                self._given[id(result)] = known[0], version
                self.refreshed += self.times > 0
            elif result is not gradient:
                self.times += 1
            return
        self.refreshed += self.times > 0
        if self._observer.full or self._observer.identity.row_of(result) != NONE:
            return  # made outside of passes, or not known: it may be what the hook is there to give
        if len(self._given) >= _KNOWN:
            self._given = {key: one for key, one in self._given.items() if one[0]() is not None}
            self._is_over = len(self._given) >= _KNOWN
        self._given[id(result)] = ref(result), version

"""An observer for a recording that begins inside function modes of the program's: they must not see it look at tensors.

While torch hands a call to the recorder's mode it has taken off that one mode only. Those below would be told of every
attribute that the recorder reads. In a run of a whole program there are none below.
"""

from __future__ import annotations

from typing import Any

from torch._C import DisableTorchFunction

from gradscope.recorder.calls.observer import Observer


class ShieldedObserver:
    """Stands for an observer; whatever looks at tensors is done with all function modes off."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._observer, name)

    def before(self, *call: Any) -> Any:
        """See :meth:`Observer.before`."""
        with DisableTorchFunction():
            return self._observer.before(*call)

    def begin_pass_after_limit(self, *call: Any) -> None:
        """See :meth:`Observer.begin_pass_after_limit`."""
        with DisableTorchFunction():
            self._observer.begin_pass_after_limit(*call)

    def count(self, *call: Any) -> None:
        """See :meth:`Observer.count`."""
        with DisableTorchFunction():
            self._observer.count(*call)

    def observe(self, *call: Any) -> None:
        """See :meth:`Observer.observe`."""
        with DisableTorchFunction():
            self._observer.observe(*call)

    def observe_error(self, *call: Any) -> None:
        """See :meth:`Observer.observe_error`."""
        with DisableTorchFunction():
            self._observer.observe_error(*call)

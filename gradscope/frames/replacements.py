"""What stands for a function of somebody else's for a while, and how it goes away again.

A program may put something of its own in the same place meanwhile, around ours or instead of it. So only what is still
ours is put back. What the program holds of ours it may put back later, when we are done: therefore each replacement
must do what the original does once nobody is at work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradscope.frames.uncounted import uncounted


class Replacement:
    """An attribute of a module, a class or an object that is ours until it is put back.

    Args:
        owner: What has the attribute.
        name: Its name.
        make: Makes ours, given what is there now.
    """

    def __init__(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        self._owner = owner
        self._name = name
        self._is_inherited = name not in self._attributes()
        self._before = self._attributes().get(name)
        self._stands_for = getattr(owner, name)
        self._ours = uncounted(make(self._stands_for))
        setattr(owner, name, self._ours)

    def put_again(self) -> bool:
        """Put ours in its place again, once it was put back; returns whether what it stands for is what is there."""
        is_inherited = self._name not in self._attributes()
        if is_inherited is not self._is_inherited or self._attributes().get(self._name) is not self._before:
            return False
        if is_inherited and getattr(self._owner, self._name) != self._stands_for:
            return False
        setattr(self._owner, self._name, self._ours)
        return True

    def put_back(self) -> None:
        """Put back what was there, unless somebody else has replaced ours since."""
        if self._attributes().get(self._name) is not self._ours:
            return
        if self._is_inherited:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._before)

    def __enter__(self) -> Replacement:
        return self

    def __exit__(self, *_: object) -> None:
        self.put_back()

    def _attributes(self) -> Any:
        return getattr(self._owner, "__dict__", {})

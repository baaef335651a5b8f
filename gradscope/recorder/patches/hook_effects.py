"""What one hook does to the gradient of one leaf: which elements it makes zero each time, and what it limits.

Looked at in a few of its runs, without waiting for a device. The leaf is looked at too: what a hook holds still by a
gradient of zero may move all the same.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch._C import DisableTorchFunction

from gradscope.recorder.state.tensors_in import PLAIN

LOOKS = 6
"""Runs of a hook that are looked at: the first, second, fourth …"""
LARGEST = 1 << 20
"""Elements of the largest leaf that is looked at: a copy of it is kept."""


class HookEffect:
    """The effect of one hook on one leaf.

    Args:
        leaf: It has the hook.
        is_after: The hook runs when the gradient has been accumulated, and is given the leaf.
    """

    def __init__(self, leaf: Tensor, is_after: bool) -> None:
        self._leaf, self._is_after = ref(leaf), is_after
        self._runs = 0
        self._seen: list[Tensor] = []
        """Of each look: how many elements were not zero before, how many of them were made smaller, to how large the
        largest of these, and the 2-norms before and after."""
        self._start: Tensor | None = None
        """The leaf at the first look."""
        self._always: Tensor | None = None
        """Elements that were zero after each look."""
        self._ever: Tensor | None = None
        """Elements that a look found made zero."""
        self._first: Tensor | None = None
        """What the gradient was after the first look, if the hook left it as it was then."""
        self._repeats: list[Tensor] = []
        """Of the first look whether that holds; of each later one whether the gradient was made the same again."""
        self._taken = 0
        """Runs that were looked at after which the leaf had no gradient any more."""
        self._moved: Tensor | None = None
        """Elements of the leaf that were another number at the last look than at the first."""

    @property
    def leaf(self) -> Tensor | None:
        """What has the hook, as long as it lives."""
        return self._leaf()

    def before(self, given: Any) -> Tensor | None:
        """A copy of the gradient that the hook is about to have, if this run is looked at."""
        self._runs += 1
        if self._runs & (self._runs - 1) or len(self._seen) >= LOOKS:
            return None
        gradient = self._gradient(given)
        if gradient is None:
            return None
        with DisableTorchFunction(), torch.no_grad():
            return gradient.detach().clone()

    def after(self, before: Tensor, given: Any, result: Any) -> None:
        """Look at what the hook made of it."""
        gradient, leaf = self._gradient(given if result is None else result), self._leaf()
        if self._is_after and leaf is not None and leaf.grad is None:
            self._note_taken(leaf)
        if gradient is None or leaf is None or gradient.shape != before.shape or leaf.shape != before.shape:
            return
        with DisableTorchFunction(), torch.no_grad():
            old, new, values = before.abs(), gradient.detach().abs(), leaf.detach()
            smaller = (new < old) & (new > 0)
            numbers = [torch.count_nonzero(old), torch.count_nonzero(smaller)]
            numbers += [torch.count_nonzero(smaller & (new == new.max())), old.norm(), new.norm()]
            self._seen.append(torch.stack([one.double() for one in numbers]))
            self._compare(before, gradient.detach())
            zero = new == 0
            made_zero = zero & (old != 0)
            if self._start is None or self._always is None or self._ever is None:
                self._start, self._always, self._ever = values.clone(), zero, made_zero
            else:
                self._always, self._ever = self._always & zero, self._ever | made_zero
            self._moved = values != self._start

    def _note_taken(self, leaf: Tensor) -> None:
        """Note that the hook took the gradient away, and whether anything moves the leaf all the same."""
        with DisableTorchFunction(), torch.no_grad():
            self._taken += 1
            values = leaf.detach()
            if self._start is None:
                self._start = values.clone()
            if values.shape == self._start.shape:
                self._moved = values != self._start

    def taken(self) -> list[int] | None:
        """How often the gradient was taken away, and how many elements of the leaf moved; None where it never was."""
        if not self._taken or self._moved is None:
            return None
        return [self._taken, int(torch.count_nonzero(self._moved))]

    def _compare(self, before: Tensor, gradient: Tensor) -> None:
        """Note whether the gradient is that of the first look, though it was another one before the hook."""
        if self._first is None:
            size = gradient.abs()
            self._first = gradient.clone()
            self._repeats.append((before == gradient).all() & (size.max() != size.min()))
        else:
            self._repeats.append((gradient == self._first).all() & (before != self._first).any())

    def found(self) -> dict[str, Any] | None:
        """What was found, when the recording ends; None where nothing was looked at."""
        if self._start is None or self._always is None or self._ever is None or self._moved is None:
            return None
        with DisableTorchFunction(), torch.no_grad():
            held = self._always & self._ever
            counts = (held, self._ever & ~self._always, held & (self._start != 0), held & self._moved)
            zeroed, at_times, valued, moved = (int(torch.count_nonzero(one)) for one in counts)
            repeats = [bool(one) for one in self._repeats]
            same = {"repeats": len(repeats) - 1} if len(repeats) > 1 and all(repeats) else {}
            return {
                **same,
                "elements": self._start.numel(),
                "zeroed": zeroed,
                "at_times": at_times,
                "valued": valued,
                "moved": moved,
                "looks": [[float(number) for number in one.tolist()] for one in self._seen],
            }

    def _gradient(self, given: Any) -> Tensor | None:
        """The gradient of what a hook is given or gives, if it can be looked at."""
        if type(given) not in PLAIN or torch.compiler.is_compiling():
            return None
        if torch._C._len_torch_dispatch_stack() or torch._C._functorch.peek_interpreter_stack() is not None:
            return None
        with DisableTorchFunction():
            if self._is_after:
                leaf = self._leaf()
                given = leaf.grad if leaf is not None else None
                if type(given) not in PLAIN:
                    return None
            is_usual = given.layout is torch.strided and given.is_floating_point() and not given.is_meta
            if not is_usual or (given.is_cuda and torch.cuda.is_current_stream_capturing()):
                return None
            return given if 0 < given.numel() <= LARGEST else None

"""Backward passes that run at this moment, in several threads: whose ``.grad`` may be looked at meanwhile.

Autograd writes ``.grad`` without Python's lock. To read the one of a leaf that another thread's pass is about to give a
gradient is a data race that can end the process, so that a pass looks at no leaf that another running pass may write.
What such a pass may have written while one ran is not put down to that one, unless its own graph leads there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch._C import DisableTorchFunctionSubclass

from gradscope.recorder.state.graph_nodes import GraphNodes
from gradscope.recorder.state.identity import Identity
from gradscope.recorder.state.many_tensors import GradientBefore


class RunningPass:
    """One pass that runs: its thread, and the leaves that it may write; None: any."""

    __slots__ = ("before", "beside", "is_beside_any", "leaves", "thread")

    def __init__(self, thread: int, leaves: frozenset[int] | None) -> None:
        self.thread = thread
        self.leaves = leaves
        self.before: dict[int, GradientBefore] | None = None
        """The gradients that leaves had when it began, where it looks at them."""
        self.beside: set[int] = set()
        """Leaves that passes of other threads may have written since this one began."""
        self.is_beside_any = False
        """One of these passes may have written any leaf."""

    def meet(self, other: RunningPass) -> None:
        """A pass of another thread runs at the same time."""
        self.is_beside_any |= other.leaves is None
        self.beside |= other.leaves or frozenset()


class PassesInFlight:
    """The passes that run; to be used under the recorder's lock."""

    def __init__(self, identity: Identity, graph: GraphNodes) -> None:
        self._identity = identity
        self._graph = graph
        self._running: list[RunningPass] = []
        self.threads: set[int] = set()
        """Numbers of the threads that are recorded at this moment."""

    @property
    def any(self) -> bool:
        """Whether a pass runs."""
        return bool(self._running)

    def begin(self, thread: int, roots: Iterable[Any]) -> RunningPass:
        """A pass from some tensors begins; what it may write is only looked for where several threads make graphs."""
        others = [other for other in self._running if other.thread != thread] if self._running else []
        leaves = None if self._graph.has_one_thread and not others else frozenset(self._leaves_behind(roots))
        running = RunningPass(thread, leaves)
        for other in others:
            other.meet(running)
            running.meet(other)
        self._running.append(running)
        return running

    def leads_on(self, thread: int, roots: Iterable[Any]) -> tuple[RunningPass, list[int]] | None:
        """Code inside the pass of a thread begins another one, whose leaves the first may write from now on.

        Returns the pass and those of these leaves that may be looked at; None where it may write any.
        """
        running = next((one for one in reversed(self._running) if one.thread == thread), None)
        if running is None or running.leaves is None:
            return None
        more = frozenset(self._leaves_behind(roots)) - running.leaves
        running.leaves |= more
        for other in self._running:
            if other.thread != thread:
                other.beside |= more
        return running, self.readable(running, more & self._identity.leaves.keys())

    def end(self, running: RunningPass) -> None:
        """A pass is over, or has raised."""
        self._running.remove(running)

    def readable(self, running: RunningPass, leaves: Iterable[int]) -> list[int]:
        """Those of some leaves that a pass may look at, and whose gradients no other pass can have changed meanwhile.

        While other threads are at work these are its own, without what their passes may write: to hold, for a moment,
        the gradient of a leaf that another thread is letting go of was seen to end the process.
        """
        others = [other.leaves for other in self._running if other.thread != running.thread] if self._running else []
        if None in others:
            return []
        met_none = not others and not running.beside and not running.is_beside_any
        if met_none and (running.leaves is None or len(self.threads) <= 1):
            return list(leaves)
        taken: set[int] = set().union(*(other for other in others if other is not None))
        return [row for row in leaves if row not in taken and row in (running.leaves or frozenset())]

    def _leaves_behind(self, roots: Iterable[Any]) -> set[int]:
        """Rows of the known leaves that a pass from some tensors comes to."""
        found = set()
        with DisableTorchFunctionSubclass():
            todo = []
            for root in roots:
                if root.grad_fn is None:
                    found.add(self._identity.row_of(root))
                else:
                    todo.append(root.grad_fn)
            seen = set(todo)
            while todo:
                node = todo.pop()
                if (variable := getattr(node, "variable", None)) is not None:
                    found.add(self._identity.row_of(variable))
                for following, _ in node.next_functions:
                    if following is not None and following not in seen:
                        seen.add(following)
                        todo.append(following)
        return found

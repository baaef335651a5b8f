"""Backward passes that run at this moment, in several threads: whose ``.grad`` may be looked at meanwhile.

Autograd writes ``.grad`` without Python's lock. To read the one of a leaf that another thread's pass is about to give a
gradient is a data race that can end the process, so that a pass looks at no leaf that another running pass may write.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch._C import DisableTorchFunctionSubclass

from gradscope.recorder.state.graph_nodes import GraphNodes
from gradscope.recorder.state.identity import Identity


class RunningPass:
    """One pass that runs: its thread, and the leaves that it may write; None: any."""

    def __init__(self, thread: int, leaves: frozenset[int] | None) -> None:
        self.thread = thread
        self.leaves = leaves


class PassesInFlight:
    """The passes that run; to be used under the recorder's lock."""

    def __init__(self, identity: Identity, graph: GraphNodes) -> None:
        self._identity = identity
        self._graph = graph
        self._running: list[RunningPass] = []

    def begin(self, thread: int, roots: Iterable[Any]) -> RunningPass:
        """A pass from some tensors begins; what it may write is only looked for where several threads make graphs."""
        others = any(other.thread != thread for other in self._running)
        leaves = None if self._graph.has_one_thread and not others else frozenset(self._leaves_behind(roots))
        running = RunningPass(thread, leaves)
        self._running.append(running)
        return running

    def end(self, running: RunningPass) -> None:
        """A pass is over, or has raised."""
        self._running.remove(running)

    def readable(self, running: RunningPass, leaves: Iterable[int]) -> list[int]:
        """Those of some leaves that a pass may look at: its own, without what passes of other threads may write."""
        others = [other.leaves for other in self._running if other.thread != running.thread]
        if running.leaves is None and not others:
            return list(leaves)
        if None in others:
            return []
        taken: set[int] = set().union(*(other for other in others if other is not None))
        return [row for row in leaves if row not in taken and (running.leaves is None or row in running.leaves)]

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

"""Where a gradient ends in zeros: which nodes were given what is not zero and gave zeros alone to a node behind them.

Asked by hooks that are taken off when the pass is over, and only once leaves were seen to get nothing but zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._C import DisableTorchFunction

from gradscope.recorder.state.graph_values import nodes_behind
from gradscope.recorder.state.tensors_in import PLAIN
from gradscope.recorder.torch_internals.capabilities import is_wrapped

NODES = 4_000
"""Nodes of the largest graph that is asked."""

PASSES = 8
"""Passes that are asked."""


class Vanished:
    """Looks at what the nodes behind some roots are given and give.

    Args:
        roots: The ``grad_fn`` of each.
        row_of: Gives the row of a node, or NONE.
    """

    def __init__(self, roots: list[Any], row_of: Callable[[Any], int]) -> None:
        self.found: list[tuple[int, list[int]]] = []
        """Nodes, with the places of the nodes behind them that got zeros alone."""
        self._is_unknown = False
        nodes = list(nodes_behind(roots))
        self._is_asked = len(nodes) <= NODES
        asked = ((node, row_of(node)) for node in nodes if not hasattr(node, "variable")) if self._is_asked else ()
        self._handles = [node.register_hook(self._hook(node, row)) for node, row in asked if row >= 0]

    @property
    def is_known(self) -> bool:
        """Whether every node that ran could be asked."""
        return self._is_asked and not self._is_unknown

    def _hook(self, node: Any, row: int) -> Callable[[Any, Any], None]:
        places = [place for place, (behind, _) in enumerate(node.next_functions) if behind is not None]

        def look(given_back: Any, given: Any) -> None:
            with DisableTorchFunction(), torch.no_grad():
                lost = [place for place in places if place >= len(given_back) or self._is_zero(given_back[place])]
                if lost and not all(self._is_zero(one) for one in given):
                    self.found.append((row, lost))

        return look

    def _is_zero(self, gradient: Any) -> bool:
        """Whether there are zeros alone; of what cannot be asked without waiting nothing is known of the pass."""
        if gradient is None:
            return True
        if type(gradient) not in PLAIN or not gradient.is_cpu or gradient.layout is not torch.strided:
            self._is_unknown = True
            return False
        if is_wrapped(gradient):
            self._is_unknown = True
            return False
        return not gradient.any()

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

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


_WITH_SMALLER = (torch.float32, torch.float64, torch.bfloat16)
"""Types with numbers that are too small for float16."""

_HAND_ON = frozenset(("ToCopyBackward0", "AddBackward0", "SubBackward0", "SumBackward0", "SumBackward1"))
"""Nodes that give what they are given, in the type of what they gave it to: zeros are then no product of theirs."""


class Vanished:
    """Looks at what the nodes behind some roots are given and give.

    Args:
        roots: The ``grad_fn`` of each.
        row_of: Gives the row of a node, or NONE.
    """

    def __init__(self, roots: list[Any], row_of: Callable[[Any], int]) -> None:
        self.found: list[tuple[int, list[int]]] = []
        """Nodes, with the places of the nodes behind them that got zeros alone."""
        self.underflown: list[tuple[int, float]] = []
        """Of these, the nodes that made a gradient zero by giving it in float16: how large it was, without its sign."""
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
        hands_on = node.name() in _HAND_ON
        places = [place for place, (behind, _) in enumerate(node.next_functions) if behind is not None]

        def look(given_back: Any, given: Any) -> None:
            with DisableTorchFunction(), torch.no_grad():
                lost = [place for place in places if place >= len(given_back) or self._is_zero(given_back[place])]
                if lost and not all(self._is_zero(one) for one in given):
                    self.found.append((row, lost))
                    if hands_on and _are_made_half([given_back[place : place + 1] for place in lost], given):
                        self.underflown.append((row, float(given[0].abs().max())))

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


def _are_made_half(lost: list[Any], given: Any) -> bool:
    """Whether a node gave in float16 what it was given in a type with smaller numbers."""
    if len(given) != 1 or given[0] is None or given[0].dtype not in _WITH_SMALLER:
        return False
    return all(len(one) == 1 and one[0] is not None and one[0].dtype == torch.float16 for one in lost)

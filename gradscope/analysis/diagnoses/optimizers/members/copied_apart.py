"""An optimizer that was deep-copied apart from its network: it steps copies of the parameters that nothing uses."""

from __future__ import annotations

import re

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.copies_without_hooks import copies_of_parameters
from gradscope.analysis.report_model import Cause

_COPIES_OPTIMIZER = re.compile(
    r"deepcopy\(\s*(?:[\w.\[\]\"']+[._])?opt(?:im\w*|s)?(?:_\w+)?(?:\[\w+\])?\s*\)", re.IGNORECASE
)
"""Text that copies what is called an optimizer, alone: ``copy.deepcopy(other.optimizer)``."""


def optimizer_copied_apart(sources: Sources, tensor: int) -> tuple[Cause, ...]:
    """The line that copied the optimizer of what a parameter is a copy of; none where that is not known.

    The parameter came of a deep copy of the network; the same parameters were copied once more, with an optimizer that
    held them, and no pass gave these copies a gradient.
    """
    index = sources.index
    calls = index.calls_of(lambda name: name == "nn.Parameter.__deepcopy__")
    made = {op: copies_of_parameters(index, op) for op in calls} if calls else {}
    origin = next((one for several in made.values() for one, copies in several.items() if tensor in copies), -1)
    if origin < 0 or origin not in sources.events.in_optimizers:
        return ()
    for op in calls:
        place = index.op_place(op)
        own = made[op].get(origin, ())
        is_apart = tensor not in own and sources.lives.passes.keys().isdisjoint(own)
        if is_apart and origin in index.uses.of(op) and _COPIES_OPTIMIZER.search(place.source):
            return tuple(sources.cause("made", op))
    return ()

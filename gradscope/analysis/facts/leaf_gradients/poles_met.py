"""The call by which weights became NaN in a pass that was not looked at: its derivative is infinite at what it kept."""

from __future__ import annotations

import re
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.value_looks import PassLook
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind

_MASKING = re.compile(r"(Relu|Clamp|ClampMin|ClampMax|Threshold|Hardtanh|Maximum|Minimum|LeakyRelu)Backward\d")
"""Nodes that put zeros in place of what comes to them where they are flat, infinities and NaN, too."""


class PoleMet(NamedTuple):
    """Such a call, whose node a pass walked."""

    op: int
    at: float
    """What it kept where its derivative ends."""
    walked: int
    """The pass."""


def pole_met(index: Index, events: Events, passes: Passes, leaf: int, looks: list[PassLook]) -> PoleMet | None:
    """What made a leaf NaN between the last two passes that were looked at; None for nothing that was seen.

    The last one, since what is NaN is at no such value; and no line that was there in more passes than one: the weights
    outlived the first.

    Args:
        index: The recording.
        events: Its events.
        passes: Its backward passes.
        leaf: That was found not to be finite.
        looks: Passes that were looked at, up to the one before which the leaf was found.
    """
    last = looks[-1].op
    since = max((look.op for look in looks[:-1] if leaf in look.gradients), default=NONE)
    ends_at = {event.subject: float(event.detail.get("at", 0)) for event in events.of(EventKind.POLE)}
    walks = dict[int, set[int]]()
    found = []
    for node, op in enumerate(index.recording.nodes.column("op")):
        walked = passes.first_walked_at[node]
        if op in ends_at and walked >= 0:
            walks.setdefault(index.op_statement[op], set()).add(walked)
            if since < walked < last and leaf in passes.leaves_behind(node) and not _is_masked(index, passes, node):
                found.append(PoleMet(op, ends_at[op], walked))
    once = [one for one in found if len(walks[index.op_statement[one.op]]) == 1]
    return max(once, key=lambda one: one.walked, default=None)


def _is_masked(index: Index, passes: Passes, node: int) -> bool:
    """Whether what a node gives back comes to nodes alone that replace it where they are flat."""
    starts, names = passes.edge_starts, index.recording.nodes.column("name")
    behind = [one for one in index.edges.values[starts[node] : starts[node + 1]] if one >= 0]
    return all(_MASKING.match(index.recording.text(names[one])) for one in behind)

"""What was cut into parts before a loop that takes one part in each round: what all rounds share is the whole."""

from __future__ import annotations

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE


def node_of_whole(index: Index, passes: Passes, node: int, used_up: int, op: int) -> int:
    """The node of what a call cut into the views of which a later pass takes others than the earlier one did, or NONE.

    ``for batch in data.split(8)`` gives all batches one node. Not where the call ran again between the two passes: then
    the later one got to what the earlier round had cut off, a state that is carried.

    Args:
        index: The recording.
        passes: When nodes were used up.
        node: A node that the later pass came to first of what the earlier one had used up.
        used_up: The earlier pass.
        op: The later pass.
    """
    made_by, node_of = index.recording.nodes.column("op")[node], index.recording.tensors.column("node")
    if not 0 <= made_by < used_up:
        return NONE
    parts = [part for part in index.tensors_made(made_by) if node_of[part] == node]
    wholes = {one for one in index.uses.of(made_by) if index.requires_grad(one, made_by)}
    if len(parts) < 2 or len(wholes) != 1:
        return NONE
    (whole,) = wholes
    memory = index.storage_at(whole, made_by)
    is_view = memory >= 0 and all(index.storage_at(part, made_by) == memory for part in parts)
    of_whole = node_of[_before_views(index, whole, made_by)]
    if of_whole < 0 or passes.used_up_at[of_whole] != used_up or index.node_tensor[of_whole] < 0 or not is_view:
        return NONE
    if index.op_statement[made_by] in set(index.op_statement[used_up + 1 : op]):
        return NONE
    before = {part for part in parts if any(user < used_up for user in index.users.of(part))}
    after = {part for part in parts if any(used_up < user < op for user in index.users.of(part))}
    return of_whole if before and after and before.isdisjoint(after) else NONE


def _before_views(index: Index, whole: int, cut: int) -> int:
    """What a whole is a view of, as far as the statement that cuts it made it one: ``data.view(3, 8).unbind()``."""
    made = index.made_by(whole)
    while 0 <= made < cut and index.op_statement[made] == index.op_statement[cut]:
        taken = [one for one in index.uses.of(made) if index.requires_grad(one, made)]
        if len(taken) != 1 or index.storage_at(taken[0], cut) != index.storage_at(whole, cut):
            break
        whole, made = taken[0], index.made_by(taken[0])
    return whole

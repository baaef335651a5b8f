"""Two terms of a loss that are the same, since one tensor is cut off in both: in one of them the other was meant to be.

A vector-quantised model pulls its codes to its codebook, ``mse_loss(z, q.detach())``, and its codebook to its codes,
``mse_loss(q, z.detach())``. Cut off in both, the codebook learns from neither, and both terms give the codes the same.
A target is what is cut off, by the order of a loss's arguments.
"""

from __future__ import annotations

from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.index import Index
from gradscope.recording import NONE


def cut_of_equal_terms(index: Index, cuts: Cuts, cut: int) -> int:
    """Of the two cuts of one tensor for two terms that are the same: that of the term whose target is followed.

    NONE where a cut is of no such terms, or the order of their arguments does not tell.
    """
    if cuts.kind(cut) != "detach" or not index.uses.of(cut):
        return NONE
    source = index.uses.of(cut)[0]
    followed = dict[int, int]()
    for other in index.users.of(source):
        if index.func(other) == index.func(cut) and (pair := _pair(index, other)):
            followed[other] = pair[0]
    if cut not in followed or len(followed) != 2 or len({_term(index, one) for one in followed}) != 1:
        return NONE
    swapped = [one for one, place in followed.items() if place == 0]
    return swapped[0] if len(swapped) == 1 else NONE


def _pair(index: Index, cut: int) -> tuple[int, int] | None:
    """The place of what a cut gave among the two arguments of the loss that takes it, and what the other is."""
    given = cuts[0] if (cuts := index.tensors_made(cut)) else NONE
    users = list(index.users.of(given)) if given >= 0 else []
    taken = list(index.uses.of(users[0])) if len(users) == 1 else []
    if len(taken) != 2 or given not in taken or not index.func(users[0]).endswith("_loss"):
        return None
    place = taken.index(given)
    other = taken[1 - place]
    return (place, other) if index.requires_grad(other, users[0]) else None


def _term(index: Index, cut: int) -> tuple[int, int]:
    """The function and the other argument of the loss that takes what a cut gave."""
    pair = _pair(index, cut)
    loss = index.users.of(index.tensors_made(cut)[0])[0]
    return index.recording.ops.column("func")[loss], pair[1] if pair else NONE

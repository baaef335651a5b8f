"""What to do about a cut, by what made it: one sentence for the line that is named."""

from __future__ import annotations

import re

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.reaching.unreached import Unreached
from gradscope.analysis.report_model import CutKind
from gradscope.recording.rows import OpKind

_BY_KIND: dict[CutKind, str] = {
    "detach": "Leave the detach out where a gradient is to flow: it is for what is only kept or shown.",
    "data": "Use the tensor itself: what is taken from .data has no way back to it.",
    "new_tensor": "Its values are copied into a new tensor without a graph: torch.stack or torch.cat joins tensors.",
    "requires_grad_false": "Leave it out where a gradient is to flow, or set it back before the forward pass.",
    "export": "Stay with tensors: what numpy or plain Python computes has no gradient.",
    "not_differentiable": "Compute with something that has a gradient: softmax for argmax, sigmoid for a comparison.",
    "no_gradient_defined": "Compute with something that has a gradient, or pass one by a straight-through estimate.",
}
_PARAMETER = "nn.Parameter makes a new leaf of the values: torch.func.functional_call runs a module with other tensors."
_IN_PLACE = "Compute a new tensor (w = w - step) where a gradient is to flow: what is written into has no graph."
_RETURNED = "Return the gradient of this input from backward, where None stands."
_CREATE_GRAPH = "Call autograd.grad with create_graph=True where its result is to be trained through."
_REENTRANT = "Call checkpoint with use_reentrant=False."
_RSAMPLE = "rsample() draws with a gradient, where the distribution has one; sample() draws without."

_LEAVES = re.compile(r"\.(numpy|tolist|item)\(")
"""Detached only for what leaves torch in the same statement."""
_SAMPLES = re.compile(r"\.sample(_n)?\(")


def advice_for_cut(sources: Sources, op: int) -> str:
    """What takes a cut out; empty where nothing is known that does."""
    cuts, index = sources.cuts, sources.index
    if cuts.reentrant.around(op) is not None:
        return _REENTRANT
    if index.recording.ops.column("kind")[op] == OpKind.GRAD:
        return _CREATE_GRAPH
    kind = cuts.kind(op)
    if kind in ("no_grad", "inference_mode"):
        return _outside(sources, op)
    if kind == "detach" and _LEAVES.search(index.op_place(op).source):
        return _BY_KIND["export"]
    name = index.func(op).rpartition(".")[2]
    if kind == "no_gradient_defined" and name.endswith("_") and not name.endswith("__"):
        return _IN_PLACE
    return _PARAMETER if name == "Parameter" else _BY_KIND.get(kind, "")


def advice_for_miss(sources: Sources, reason: Unreached | None) -> str:
    """What lets the gradient of a pass come to a leaf that it did not reach; empty where nothing is known."""
    if reason is None:
        return ""
    if reason.changed_at:
        return _PARAMETER if "Parameter" in reason.why else ""
    if reason.none_at:
        return _RETURNED
    return advice_for_cut(sources, reason.cut_op) if reason.cut_op >= 0 else ""


def _outside(sources: Sources, op: int) -> str:
    region = sources.cuts.regions.describe(op)
    if region is None:
        return ""
    if region.is_written:
        return f"Run what is to be trained outside {region.mode}: it is for evaluation, and for writing into weights."
    return _RSAMPLE if _SAMPLES.search(sources.index.op_place(region.op).source) else ""

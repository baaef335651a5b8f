"""A straight-through estimate the wrong way round: the gradient goes to the result of the step, not to its input."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.reaching.straight_through import StraightThrough, StraightThroughs
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    nodes = index.recording.tensors.column("node")
    for found in StraightThroughs(index, sources.flow).reversed():
        made = index.tensors_made(found.op)
        if made and nodes[made[0]] >= 0 and sources.passes.first_walked_at[nodes[made[0]]] >= 0:
            yield _finding(sources, found)


def _finding(sources: Sources, found: StraightThrough) -> Finding:
    line = sources.index.op_line(found.op)
    takes = sources.names.at(found.takes, found.op)
    shows = sources.listed([sources.names.at(one, found.op) for one in found.shows])
    if found.sign > 0:
        symptom = f"Line {line}: this sum has the values of {shows}, and all of its gradient goes to {takes}"
        why = f"{takes} was computed from {shows} by a call that lets no gradient back, so that {shows} gets none here"
        advice = f"To use {takes} and pass its gradient on to {shows}: {shows} + ({takes} - {shows}).detach()."
    else:
        symptom = f"Line {line}: this sum takes {takes} away with its graph and adds it again without"
        why = f"nothing is left of its values, and the gradient of the sum goes to {takes} with a minus"
        advice = f"Add {takes} with its graph and take it away without"
        is_named = len(found.shows) == 1 and not shows.startswith("<")
        advice += f": {takes} + ({shows} - {takes}).detach()." if is_named else "."
    return sources.finding(
        symptom,
        why=why,
        op=found.op,
        tensors=[found.takes, *found.shows],
        causes=sources.cause("cut", found.op),
        evidence=[Evidence("tensors", one) for one in found.shows],
        advice=advice,
    )


DIAGNOSIS = Diagnosis(
    code="straight-through-reversed",
    title="a straight-through estimate the wrong way round",
    severity="warning",
    explanation=Explanation(
        meaning="""A sum like a + (z - a).detach() has the values of z and hands its gradient to a. Here a was computed
            from z by a call without a derivative (the code of a codebook, a sign, a round), so that z was to get the
            gradient; or the gradient is handed on with a minus.""",
        reason="""What is detached counts for the values alone, what is not takes the whole gradient. A straight-through
            estimate shows the result of a step without a derivative, and passes the gradient to its input.""",
        remedy="""Write z + (q - z).detach(), where q is what was computed from z: the values of q, the gradient to
            z.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.tensor([0.3, -1.6], requires_grad=True)
scale = torch.ones(2, requires_grad=True)
hard = torch.sign(w.detach()) * scale
y = hard + (w - hard).detach()
y.pow(2).sum().backward()
""",
        instead_of="y = hard + (w - hard).detach()",
        silent="y = w + (hard - w).detach()",
    ),
    find=_find,
)

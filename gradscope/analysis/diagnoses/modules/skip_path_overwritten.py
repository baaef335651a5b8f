"""An activation in place that overwrote what the same function adds afterwards as its input."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.rectified_skips import RectifiedSkip, rectified_skips
from gradscope.analysis.facts.modules.items_of_chains import item_of_chain
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.modules.inplace_modules import inplace_modules

_IN_PLACE = re.compile(r"inplace\s*=\s*True|\w_\(")
"""In the source of a call: that it works in place."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each activation."""
    index = sources.index
    for written, several in _by_statement(sources).items():
        skip = several[-1]
        causes = _made_in_place(sources, skip) or sources.cause("write", skip.written)
        yield sources.finding(
            f"Line {causes[0].line if causes else index.place(written).line}: {index.call_name(skip.written)} in place "
            f"overwrote {skip.name}, and {index.call_name(skip.read)} then took {skip.name} for the input as it had "
            "been",
            why="both ways have the same tensor, so that the one past the activation has its result as well",
            op=skip.written,
            tensors=[skip.tensor],
            causes=causes,
            evidence=[Evidence("ops", one.read) for one in several],
            advice="Leave inplace out here; where it is to work in place, clone() what is added afterwards.",
        )


def _by_statement(sources: Sources) -> dict[int, list[RectifiedSkip]]:
    found: dict[int, list[RectifiedSkip]] = {}
    for skip in rectified_skips(sources.index, sources.names_held):
        found.setdefault(sources.index.op_statement[skip.written], []).append(skip)
    return found


def _made_in_place(sources: Sources, skip: RectifiedSkip) -> list[Cause]:
    """Where the module is made that was called there, or else the first of a sequence: that has the input."""
    index = sources.index
    if _IN_PLACE.search(index.span_source(skip.written)):
        return []  # (the call itself says so)
    file = index.statements[index.op_statement[skip.written]].file
    item = item_of_chain(index, skip.written)
    made = inplace_modules(index.recording.files[file].text, index.op_line(skip.written), item)
    return [sources.cause_of_line("made", file, *made[0], "")] if made else []


DIAGNOSIS = Diagnosis(
    code="skip-path-overwritten",
    title="an activation in place that overwrote the input of its block",
    severity="warning",
    explanation=Explanation(
        meaning="""An activation that works in place overwrote a tensor that the same function reads afterwards under
            a name that it had before: the input of a block that a skip connection adds to the block's result.""",
        reason="""inplace=True puts the result where the input was. Every name of the input then shows the result.
            Autograd raises nothing, since no node had saved the values that were overwritten.""",
        remedy="""Leave inplace=True out of the activation that has the block's input, or clone() what the skip
            connection adds. One that works on a result that nobody else reads may stay in place.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 3)
act = torch.nn.ReLU(inplace=True)
def block(x):
    y = layer(act(x))
    return x + y
block(layer(torch.randn(2, 3))).sum().backward()
""",
        instead_of="act = torch.nn.ReLU(inplace=True)",
        silent="act = torch.nn.ReLU()",
    ),
    find=_find,
)

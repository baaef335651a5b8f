"""A deep copy of a model that computes with the weights of the original, by functions that were copied by reference."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.copies_of_closures import CopiedClosure
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.worded_lines import numbers


def _find(sources: Sources) -> Iterator[Finding]:
    for found in sources.copied_closures:
        yield _finding(sources, found)


def _finding(sources: Sources, found: CopiedClosure) -> Finding:
    index, recording = sources.index, sources.index.recording
    originals = sources.listed([sources.names.of(one) for one in found.originals])
    kind = recording.text(recording.modules[found.module].kind)
    lines = numbers({index.line(file, first) for file, first, _ in found.places})
    several = len(found.places) > 1
    return sources.finding(
        f"Line{'s' if several else ''} {lines}: what is assigned there goes on with the module that it was made for, "
        f"and a deep copy takes it over as it is: the {kind} that line {index.op_line(found.copied)} copied computes "
        f"with {originals} of the original, and its own parameters have no part in its calls",
        op=found.copied,
        tensors=found.copies,
        causes=[
            *(sources.cause_of_line("made", *place, "") for place in found.places),
            *sources.cause("made", found.copied),
        ],
        evidence=[Evidence("ops", found.ran)],
        advice="Let the function take the module as its first argument (functools.partial or a method is copied with "
        "its object), or build the second model anew and load the state into it.",
    )


DIAGNOSIS = Diagnosis(
    code="copy-runs-original",
    title="a deep copy that computes with the weights of the original",
    severity="warning",
    explanation=Explanation(
        meaning="""A module has a function of its own as an attribute (module.forward = new_forward, a lambda that reads
            self), and was copied with copy.deepcopy. The copy was called, its own parameters had no part in that, and
            what ran in it took those of the original.""",
        reason="""deepcopy copies the attributes of an object, and a function is one and the same for every copy: the
            module that a closure refers to stays the original. Both models follow one set of weights.""",
        remedy="""Give the function the module as an argument: module.forward = functools.partial(new_forward, module),
            or types.MethodType(new_forward, module), which deepcopy copies with their object.""",
    ),
    example=Example(
        shows="""\
import copy
import torch
from torch import nn

def patched(module):
    old_forward = module.forward

    def new_forward(x):
        return old_forward(x).float()

    module.forward = new_forward
    return module

model = nn.Sequential(patched(nn.Linear(3, 2)))
reference = copy.deepcopy(model)
x = torch.ones(4, 3)
with torch.no_grad():
    wanted = reference(x)
(model(x) - wanted - 1).pow(2).mean().backward()
""",
        instead_of="module.forward = new_forward",
        silent="module.register_forward_hook(lambda module, args, output: output.float())",
    ),
    find=_find,
)

"""Loaded values that a module's first run overwrites, as the attribute that tells it so is not in its state."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.loads_overwritten import loads_overwritten
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in loads_overwritten(index):
        guard, function = found.guard, index.op_place(found.written).function
        names = sources.listed([sources.names.of(tensor) for tensor in found.tensors])
        yield sources.finding(
            f"Line {index.line(found.file, guard.begins[0])}: {guard.name} is a plain attribute, which no state_dict() "
            f"holds, so that a module into which a state is loaded begins with {guard.begins_as} again",
            why=f"load_state_dict (line {index.op_line(found.load)}) had put values into {names}, which "
            f"{index.call_name(found.written)} (line {index.op_line(found.written)}) overwrote",
            op=found.written,
            tensors=found.tensors,
            causes=[
                sources.cause_of_line("made", found.file, *lines, function) for lines in (guard.begins, guard.is_set)
            ],
            evidence=[Evidence("ops", found.load)],
            advice=f"Make it a buffer: register_buffer({guard.name.removeprefix('self.')!r}, torch.tensor(…)), "
            "and fill_() it.",
        )


DIAGNOSIS = Diagnosis(
    code="loaded-then-initialized",
    title="loaded values that the module's first run overwrites",
    severity="warning",
    explanation=Explanation(
        meaning="""load_state_dict() put values into a parameter or buffer. Later a method of the module overwrote them,
            which an attribute of its own lets run once: if not self.initialized.""",
        reason="""A state_dict() holds parameters and buffers. A bool, a number or None that a module keeps as a plain
            attribute is not saved: a new object begins with what __init__ gave it, and initialises itself from the
            first batch, whatever was loaded.""",
        remedy="""Keep it as a buffer: self.register_buffer("initialized", torch.tensor(False)), and
            self.initialized.fill_(True); or give it out in get_extra_state().""",
    ),
    example=Example(
        shows="""\
import torch

class Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3))
        self.is_ready = False
    def forward(self, x):
        if not self.is_ready:
            self.scale.data.copy_(1 / x.std(0))
            self.is_ready = torch.tensor(True)
        return x * self.scale

x = torch.arange(6.0).reshape(2, 3)
trained, restored = Scale(), Scale()
trained(x)
restored.load_state_dict(trained.state_dict())
restored(x * 2)
""",
        instead_of="self.is_ready = False",
        silent='self.register_buffer("is_ready", torch.tensor(False))',
    ),
    find=_find,
)

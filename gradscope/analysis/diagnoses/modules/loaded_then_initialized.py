"""Loaded values that are overwritten by an initialisation: one that comes after the load, or a module's first run.

There the attribute that tells the module so is not in its state.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.inits_after_loads import InitAfterLoad, inits_after_loads
from gradscope.analysis.facts.modules.loads_overwritten import loads_overwritten
from gradscope.analysis.report_model import Cause, Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for one in inits_after_loads(index):
        yield _initialized(sources, one)
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


def _initialized(sources: Sources, one: InitAfterLoad) -> Finding:
    index, called = sources.index, list[Cause]()
    if one.call is not None:
        at = index.statements[index.op_statement[one.init]]
        function = index.op_place(one.load).function
        called = [sources.cause_of_line("write", at.file, one.call.line, one.call.end_line, function)]
    names = sources.listed([sources.names.of(tensor) for tensor in one.tensors])
    line = called[0].line if called else index.op_line(one.init)
    return sources.finding(
        f"Line {line}: an initialisation ({index.call_name(one.init)}) overwrote {names}",
        why="load_state_dict() had put values into them before, and nothing was computed with those: of the state that "
        "was loaded no weight is left",
        op=one.init,
        tensors=one.tensors,
        causes=called or sources.cause("write", one.init),
        evidence=[Evidence("ops", one.load)],
        advice="Initialise first, and load after that; or initialise only what is not loaded.",
    )


DIAGNOSIS = Diagnosis(
    code="loaded-then-initialized",
    title="loaded values that an initialisation overwrites",
    severity="warning",
    explanation=Explanation(
        meaning="""load_state_dict() put values into a parameter or buffer. Later a method of the module overwrote them,
            which an attribute of its own lets run once: if not self.initialized. Or an initialisation (nn.init, apply)
            overwrote all weights of that state, before anything was computed with them.""",
        reason="""apply(init_weights) goes to all layers, with those that were loaded. And a state_dict() holds
            parameters and buffers. A bool, a number or None that a module keeps as a plain attribute is not saved: a
            new object begins with what __init__ gave it, and initialises itself from the first batch, whatever was
            loaded.""",
        remedy="""Initialise before the load, or only what is not loaded. Keep an attribute as a buffer:
            self.register_buffer("initialized", torch.tensor(False)), and
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

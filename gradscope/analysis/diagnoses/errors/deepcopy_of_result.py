"""``copy.deepcopy`` of a tensor with a grad_fn: where it was put on the object that was copied."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.program.attribute_stores import attribute_stores
from gradscope.analysis.report_model import Cause

_MESSAGE = "support the deepcopy protocol"


def _find(sources: Sources) -> Iterator[Finding]:
    index, tensors = sources.index, sources.index.recording.tensors
    for op, _, severity in sources.raised(_MESSAGE):
        tensor = index.uses.of(op)[0]
        kept = _kept(sources, tensor, op)
        grad_fn = index.recording.text(index.recording.nodes.column("name")[tensors.column("node")[tensor]])
        where = f" (kept at line {kept[0].line})" if kept else ""
        yield sources.finding(
            f"Line {index.op_line(op)}: deepcopy failed, since {sources.names.of(tensor)}{where} is a result "
            f"with a graph ({grad_fn})",
            op=op,
            tensors=[tensor],
            causes=kept or sources.cause("used", op),
            advice="Keep a detached one there (detach()), or keep it as a local name only.",
            severity=severity,
        )


def _kept(sources: Sources, tensor: int, op: int) -> list[Cause]:
    """The lines that put a tensor on an object; that which made it where none is known to."""
    index = sources.index
    if stored := sources.stored(tensor, op, on_object=True):
        return stored
    if any(at == op for at, _ in sources.loads.get(tensor, ())):
        return []  # it was copied itself, not as a part of something
    made_at = index.recording.tensors.column("op")[tensor]
    statement = index.statements[index.op_statement[made_at]] if made_at < index.op_count else index.statements[0]
    if statement.file >= 0:
        text = index.recording.files[statement.file].text
        if lines := attribute_stores(text, statement.line):
            return [sources.cause_of_line("saved", statement.file, *where) for where in lines]
    return sources.stored(tensor, op) or sources.made_at(tensor)


DIAGNOSIS = Diagnosis(
    code="deepcopy-of-result",
    title="deepcopy met a tensor with a graph",
    severity="problem",
    explanation=Explanation(
        meaning="""copy.deepcopy raised "Only Tensors created explicitly by the user support the deepcopy protocol": the
            object that it copied holds a tensor with a grad_fn.""",
        reason="""A copy of a result would need a copy of the graph behind it, which torch does not make. Mostly it is
            an activation or a loss that forward put on the module, and the module is copied later.""",
        remedy="""Put a detached tensor on the object (self.weights = weights.detach()), and use a local name for
            what is computed further. Of a model that is kept for later, the state_dict is enough.""",
    ),
    example=Example(
        shows="""\
import copy, torch

net = torch.nn.Linear(2, 2)
net.seen = net(torch.ones(2))
best = copy.deepcopy(net)
""",
        instead_of="net.seen = net(torch.ones(2))",
        silent="net.seen = net(torch.ones(2)).detach()",
    ),
    find=_find,
)

"""Deep copies that are trained without the hooks of what they were copied from."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.copies_without_hooks import copied_without_hooks
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each hook and line that copies; a note where the original may have needed it alone."""
    index = sources.index
    for one in copied_without_hooks(index, sources.hooks, sources.lives):
        event, number = one.hook.registered[0], len(set(one.copies))
        registered = sources.cause_of_event("made", event)
        at = f" of line {registered[0].line}" if registered else ""
        name, copies = sources.names.of(one.original), "1 copy" if number == 1 else f"{number} copies"
        yield sources.finding(
            f"Line {index.op_line(one.op)}: copy.deepcopy copies no hook of a parameter, {one.hook.name}{at} on {name} "
            "is not on the copy",
            why=f"{copies} of {name} got gradients that the hook did not change, and {index.call_name(one.step)} "
            "applied them",
            op=one.op,
            tensors=[one.copies[-1]],
            causes=[*sources.cause("made", one.op), *registered],
            evidence=[Evidence("events", event.row), Evidence("ops", one.step)],
            advice="Register the hook on each copy.",
            severity=None if not one.hook.count("runs") or one.hook.source.is_mask else "note",
        )


DIAGNOSIS = Diagnosis(
    code="hook-not-copied",
    title="copies that are trained without the hook of the original",
    severity="warning",
    explanation=Explanation(
        meaning="""A hook that changes gradients was registered on a parameter, the module was copied by copy.deepcopy,
            and an optimizer stepped the copy, on which no hook was registered.""",
        reason="""A deep copy of a parameter has its values and requires_grad, but not its hooks: neither those of
            register_hook nor those of register_post_accumulate_grad_hook. Hooks of modules are copied.""",
        remedy="""Register the hook on the copy as well, by a method that is called after each copy; or mask the
            gradients in the training loop.""",
    ),
    example=Example(
        shows="""\
import copy
import torch

base = torch.nn.Linear(3, 1)
mask = torch.tensor([[0.0, 1.0, 1.0]])
base.weight.register_hook(lambda grad: grad * mask)
net = copy.deepcopy(base)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
net(torch.ones(2, 3)).sum().backward()
optimizer.step()
""",
        instead_of="net = copy.deepcopy(base)",
        silent="net = base",
    ),
    find=_find,
)

"""Hooks on modules that were compiled and had run before: the compiled code does not call them."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.compiled_results import compiled_at
from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

_WRAPPER = "torch.OptimizedModule.__call__"
_BACKWARD = ("backward", "backward_pre")


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line whose hooks compiled code leaves out."""
    index = sources.index
    for hook in sources.hooks.all:
        if hook.is_on_tensor or hook.count("removed") or not hook.count("compiled"):
            continue
        for event in hook.registered:
            # What is compiled after the hook was registered has it in it.
            if event.detail.get("compiled") != hook.count("compiled") or not event.tensors:
                continue
            if hook.kind in _BACKWARD and not any(op >= event.op for op in sources.hooks.pass_ops):
                continue
            if (later := _runs_compiled(sources, event)) < 0:
                continue
            compiled, line = compiled_at(sources), index.span_line(event.span)
            where = f"what line {compiled[0].line} compiled" if compiled else "the compiled function around it"
            yield sources.finding(
                f"Line {line}: {hook.name}, the hook on the module of {sources.names.of(event.tensors[0])}, never ran",
                why=f"{where} had run before, and no hook that comes later is in its code",
                op=min(event.op, index.op_count - 1),
                tensors=event.tensors[:1],
                causes=[*sources.cause_of_event("made", event), *compiled],
                evidence=[Evidence("events", event.row), Evidence("ops", later)],
                advice="Register it before the first call, or leave uncompiled what has hooks.",
            )
            break


def _runs_compiled(sources: Sources, event: Happened) -> int:
    """The last compiled call with the parameters of a hook's module; NONE where none ran before, or one as it is."""
    index, kinds = sources.index, sources.index.recording.ops.column("kind")
    used = sorted({op for tensor in event.tensors for op in index.users.of(tensor)})
    compiled = [op for op in used if _is_compiled(sources, op)]
    if not compiled or compiled[0] >= event.op or compiled[-1] < event.op:
        return NONE
    return NONE if any(kinds[op] == OpKind.CALL for op in used if op >= event.op) else compiled[-1]


def _is_compiled(sources: Sources, op: int) -> bool:
    """Whether a row stands for all that compiled code called."""
    index = sources.index
    if index.recording.ops.column("kind")[op] != OpKind.GROUP:
        return False
    return index.func(op) in (_WRAPPER, index.recording.text(index.statements[index.op_statement[op]].function))


DIAGNOSIS = Diagnosis(
    code="hook-not-compiled",
    title="a hook on a module that was compiled before",
    severity="warning",
    explanation=Explanation(
        meaning="""A hook was registered on a module that is part of a compiled function which had run already. The
            function ran again, was not compiled anew, and so never called the hook.""",
        reason="""torch.compile takes the hooks of modules into its code as they are when it compiles, at the first
            call. It does not look whether there are others at later calls: that check is left out for speed.""",
        remedy="""Register hooks before the first call of what is compiled. Where they come and go, leave it
            uncompiled, or set torch._dynamo.config.skip_nnmodule_hook_guards = False.""",
    ),
    example=Example(
        shows="""\
import torch

net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh())
fast = torch.compile(net, backend="aot_eager")
fast(torch.ones(2, 3)).sum().backward()
seen = []
net[0].register_forward_hook(lambda module, args, output: seen.append(output.norm()))
fast(torch.ones(2, 3)).sum().backward()
""",
        instead_of='fast = torch.compile(net, backend="aot_eager")',
        silent="fast = net",
    ),
    find=_find,
)

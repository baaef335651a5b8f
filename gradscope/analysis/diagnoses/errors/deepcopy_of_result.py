"""``copy.deepcopy`` of a tensor with a grad_fn: where it was put on the object that was copied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory.keepers import keeper
from gradscope.analysis.facts.program.attribute_stores import stores_of_hooks, stores_on_objects
from gradscope.analysis.report_model import Cause, Severity
from gradscope.analysis.worded_lines import numbers
from gradscope.frames.names.put_statements import containers_of
from gradscope.recording.flags import BELOW, LEAF, PARAMETER
from gradscope.recording.rows import OpKind

_MESSAGE = "support the deepcopy protocol"
_PLACES = 2
"""Statements that are named as those that keep a result; of more of them none is known to."""

_REWRITES = {
    "nn.utils.weight_norm": "weight_norm",
    "nn.utils.WeightNorm.apply": "weight_norm",
    "nn.utils.spectral_norm": "spectral_norm",
    **{
        f"nn.utils.{name}": name
        for name in (
            "identity",
            "random_unstructured",
            "l1_unstructured",
            "random_structured",
            "ln_structured",
            "global_unstructured",
            "custom_from_mask",
        )
    },
}
"""What makes the weight of a module a result: by the name of the call, what the program calls it."""
_COMPUTE = ("torch._weight_norm", "Tensor.div", "Tensor.mul")
"""What torch computes it with before each forward pass."""
_ADVICE = {
    name: f"torch.nn.utils.parametrizations.{name} keeps none: a module with it can be copied."
    for name in ("weight_norm", "spectral_norm")
}
_OF_PRUNED = "Copy the module before it is pruned, or after prune.remove; or copy its state_dict alone."


def _find(sources: Sources) -> Iterator[Finding]:
    index, tensors = sources.index, sources.index.recording.tensors
    for op, _, severity in sources.raised(_MESSAGE):
        # A call that copies a whole module (AveragedModel) was given its parameters as well.
        results = [one for one in index.uses.of(op) if not tensors.column("flags")[one] & (LEAF | PARAMETER)]
        tensor = next((one for one in results if tensors.column("node")[one] >= 0), None)
        if tensor is None:
            continue
        if rewrite := _rewrite(sources, tensor):
            yield _of_rewrite(sources, op, tensor, rewrite, severity)
            continue
        kept = _kept(sources, tensor, op)
        made = [] if kept or _is_copied_itself(sources, tensor, op) else sources.made_at(tensor)
        grad_fn = index.recording.text(index.recording.nodes.column("name")[tensors.column("node")[tensor]])
        lines = [cause.line for cause in kept or made]
        where = f" ({'kept' if kept else 'made'} at line{'s' * (len(lines) > 1)} {numbers(lines)})" if lines else ""
        yield sources.finding(
            f"Line {index.op_line(op)}: deepcopy failed, since {sources.names.of(tensor)}{where} is a result "
            f"with a graph ({grad_fn})",
            op=op,
            tensors=[tensor],
            causes=kept or made or sources.cause("used", op),
            advice="Keep a detached one there (detach()), or keep it as a local name only.",
            severity=severity,
        )


class _Rewrite(NamedTuple):
    """A function of ``torch.nn.utils`` by which a module has a computed weight in the place of its parameter."""

    name: str
    """``spectral_norm``."""
    calls: tuple[int, ...]
    """All ops that call it."""


def _rewrite(sources: Sources, tensor: int) -> _Rewrite | None:
    """The function that computed a tensor as the weight of a module, itself or before a forward pass."""
    index = sources.index
    made_at = index.recording.tensors.column("op")[tensor]
    if made_at >= index.op_count:
        return None
    kinds, flags = (index.recording.ops.column(name) for name in ("kind", "flags"))
    is_anew = bool(flags[made_at] & BELOW) and index.func(made_at) in _COMPUTE
    taken = {tensor, *(index.uses.of(made_at) if is_anew else ())}
    for op in index.calls_of(_REWRITES.__contains__):
        parts = {*index.uses.of(op), *index.tensors_made(op)}
        if kinds[op] == OpKind.GROUP and op <= made_at and not parts.isdisjoint(taken):
            name = _REWRITES[index.func(op)]
            calls = index.calls_of(lambda one: _REWRITES.get(one) == name)  # noqa: B023 (it is called here)
            return _Rewrite(name, tuple(calls))
    return None


def _of_rewrite(sources: Sources, op: int, tensor: int, rewrite: _Rewrite, severity: Severity | None) -> Finding:
    causes = list(dict.fromkeys(cause for call in rewrite.calls for cause in sources.cause("saved", call)))[:_PLACES]
    lines = sorted({cause.line for cause in causes})
    return sources.finding(
        f"Line {sources.index.op_line(op)}: deepcopy failed, since the weight that {rewrite.name} (line"
        f"{'s' * (len(lines) > 1)} {numbers(lines)}) puts on the module is a result with a graph",
        op=op,
        tensors=[tensor],
        causes=causes,
        advice=_ADVICE.get(rewrite.name, _OF_PRUNED),
        severity=severity,
    )


def _is_copied_itself(sources: Sources, tensor: int, op: int) -> bool:
    """Whether it is what was copied, not a part of something."""
    return any(at == op for at, _ in sources.loads.get(tensor, ()))


def _kept(sources: Sources, tensor: int, op: int) -> list[Cause]:
    """The lines that put a tensor on an object; none where none is known to."""
    index = sources.index
    if stored := sources.stored(tensor, op, on_object=True):
        return stored
    if _is_copied_itself(sources, tensor, op):
        return []
    made_at, names = index.recording.tensors.column("op")[tensor], sources.names_held.get(tensor, ())
    statement = index.statements[index.op_statement[made_at]] if made_at < index.op_count else index.statements[0]
    spans = [index.recording.spans[span] for _, _, span in names if span >= 0]
    seen_in = {one for name, _, _ in names for one in containers_of(index.recording.text(name))}
    function = index.recording.text(statement.function).rpartition(".")[2]
    for number, file in enumerate(index.recording.files):
        made_here = {statement.line} if statement.file == number else set()
        lines = made_here | {span.stmt_line for span in spans if span.file == number}
        functions = {function} - {"<module>", "<lambda>", "forward", "__call__"}
        found = stores_on_objects(file.text, lines, functions, seen_in) if file.is_user else []
        if not found and file.is_user and (called := _module_called_at(sources, made_at, number)):
            found = stores_on_objects(file.text, called, set(), seen_in)
        if (
            not found
            and file.is_user
            and made_at < index.op_count
            and index.recording.ops.column("flags")[made_at] & BELOW
        ):
            found = stores_of_hooks(file.text)
        if 0 < len(found) <= _PLACES:
            return [sources.cause_of_line("saved", number, *where) for where in found]
    found_by = keeper(index, [tensor], sources.names_held)
    if found_by is None:
        return []
    return [sources.cause_of_line("saved", found_by.file, found_by.put.line, found_by.put.end_line, "")]


def _module_called_at(sources: Sources, op: int, file: int) -> set[int]:
    """The line of a file that called the module in which an op ran, as that gives what the op made; else none."""
    recording = sources.index.recording
    spans = recording.ops.column("span")
    columns = (recording.module_ops.column(name) for name in ("op", "module"))
    if not 0 <= op < len(spans):
        return set()
    calls = {recording.modules[module].span for at, module in zip(*columns, strict=True) if spans[at] == spans[op]}
    return {recording.spans[span].line for span in calls if span >= 0 and recording.spans[span].file == file}


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

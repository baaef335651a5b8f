"""``element 0 of tensors does not require grad``: where the graph was cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.loss_terms import is_number
from gradscope.analysis.facts.modes.graphs_in_training import left_without_graph
from gradscope.analysis.facts.modules.calls_that_freeze import span_in_function
from gradscope.analysis.facts.modules.module_words import module_word
from gradscope.analysis.facts.reaching.left_values import is_built_from_values
from gradscope.analysis.facts.tracking.left_in_checkpoints import left_in_checkpoint
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.analysis.wording import listed
from gradscope.frames.calls.calls_of_arguments import called_argument
from gradscope.frames.names.rebound_names import rebound_names
from gradscope.recording.flags import EXTERNAL

_MESSAGE = "does not require grad and does not have a grad_fn"


class _Untracked(NamedTuple):
    """Why the root does not require grad, the lines to change, the op where it is placed, and rows that say so."""

    why: str
    causes: list[Cause]
    op: int
    evidence: list[Evidence]
    advice: str = ""


def _find(sources: Sources) -> Iterator[Finding]:
    index, names = sources.index, sources.names
    for op in sources.gradients.untracked_roots:
        root = sources.gradients.roots[op][0]
        reason = (
            _frozen_since(sources, op)
            or _cut(sources, op)
            or _left_torch(sources, op)
            or _frozen(sources, op)
            or _left_behind(sources, op, root)
            or _constants(sources, op, root)
            or _unknown(sources, op, root)
        )
        yield sources.finding(
            f"Line {index.op_line(op)}: backward failed, since {names.at(root, op)} does not require grad",
            why=reason.why,
            op=reason.op,
            tensors=[root],
            causes=reason.causes,
            evidence=[Evidence("ops", op), *reason.evidence],
            advice=reason.advice,
        )
    yield from _find_inside(sources)


def _find_inside(sources: Sources) -> Iterator[Finding]:
    """Passes from what requires grad that met the backward of a custom Function which differentiates what it runs.

    What it runs there is not seen; what its forward ran of the user's code is, and that built a result of plain values.
    """
    index, names = sources.index, sources.names
    for op, _, severity in sources.raised(_MESSAGE):
        roots = [root for root in sources.gradients.roots.get(op, ()) if index.requires_grad(root, op)]
        behind = sources.flow.origins_of_all(roots, op)
        given = [tensor for tensor in behind if index.given_by_functions.get(tensor, op) < op]
        if not given:
            continue
        function = max(given, key=index.given_by_functions.__getitem__)
        made = _built_in_forward(sources, index.given_by_functions[function])
        if made is None:
            continue
        yield sources.finding(
            f"Line {index.op_line(op)}: backward failed inside the custom Function that made {names.of(function)} "
            f"at line {index.op_line(index.given_by_functions[function])}, whose backward differentiates what it calls",
            why=f"line {index.op_line(made)}, which it calls, builds a tensor of plain values "
            f"({index.call_name(made)}), and that has no graph",
            op=op,
            tensors=[roots[0]],
            causes=sources.cause("cut", made),
            evidence=[Evidence("ops", made)],
            advice="Compute with the tensors themselves there.",
            severity=severity,
        )


def _built_in_forward(sources: Sources, given_at: int) -> int | None:
    """The last op by which the user's code built a tensor of plain values in the forward of a custom Function."""
    index, regions = sources.index, sources.cuts.regions
    makes, made_at = sources.libraries.makes, index.recording.tensors.column("op")
    for tensor in range(len(made_at) - 1, -1, -1):
        op = made_at[tensor]
        if op > given_at or makes[op] or not is_built_from_values(index, tensor):
            continue
        region = regions.describe(op)
        if regions.is_inside_function(op) or (region is not None and not region.is_written):
            return op
    return None


def _cut(sources: Sources, op: int) -> _Untracked | None:
    index = sources.index
    cuts = sources.gradients.cuts_behind(op)
    if not cuts:
        return None
    if rebound := _rebound(sources, cuts):
        return rebound
    evidence = [Evidence("ops", one) for one in cuts]
    if inside := sources.gradients.run_inside(op):
        lines, region = numbers(statement.line for statement, _ in inside), inside[-1][1]
        where = f"line{'s' * (len(inside) > 1)} {lines}, inside the {region.mode} of line {region.line}"
        causes = [*sources.causes_at("cut", (statement for statement, _ in inside)), *sources.cut_causes(cuts)]
        return _Untracked(f"the graph was cut at {where}", causes, cuts[0], evidence)
    where = listed(list(dict.fromkeys(map(sources.cuts.where, cuts))))
    left = [left_without_graph(index, sources.passes, sources.events, cut) for cut in cuts]
    if (call := left[0]) is not None and None not in left:
        return _Untracked(
            f"the graph was cut at {where}, which makes one in training mode only, and eval() at line "
            f"{index.span_line(call.event.span)} left {module_word(index, sources.names, call)} in the other",
            [*sources.cause_of_span("set", call.event.span), *sources.cut_causes(cuts)],
            cuts[0],
            [*evidence, Evidence("events", call.event.row)],
            "Call train() again before training goes on.",
        )
    if (given := _given(sources, op, cuts)) is not None:
        called, name = given
        return _Untracked(
            f"the graph was cut at {where}, in which line {called.line} calls {name}",
            [called, *sources.cut_causes(cuts)],
            cuts[0],
            evidence,
            f"Call {name} under torch.enable_grad() there.",
        )
    return _Untracked(f"the graph was cut at {where}", sources.cut_causes(cuts), cuts[0], evidence)


def _given(sources: Sources, op: int, cuts: list[int]) -> tuple[Cause, str] | None:
    """The call, in a function with gradients off, of what that was given (a closure) and which computed and failed."""
    index, recording = sources.index, sources.index.recording
    region = sources.cuts.regions.describe(cuts[0])
    if region is None or not region.is_written or sources.cuts.kind(cuts[0]) not in ("no_grad", "inference_mode"):
        return None
    opened = index.statements[index.op_statement[region.op]]
    for span in sources.caught.way(recording.ops.column("span")[op])[1:]:
        row = recording.spans[span]
        name = called_argument(recording.files[row.file].text, row.line, region.line) if row.file == opened.file else ""
        if name:
            return sources.cause_of_span("used", span)[0], name
    return None


def _rebound(sources: Sources, cuts: list[int]) -> _Untracked | None:
    """All cuts are updates of leaves that give the leaf's name to a new tensor: ``w = w - lr * w.grad``."""
    index, names = sources.index, dict[int, str]()
    for cut in cuts:
        statement, leaf = index.statements[index.op_statement[cut]], sources.cuts.input_of(cut)
        if statement.file < 0 or not index.is_leaf(leaf):
            return None
        name = rebound_names(index.recording.files[statement.file].text).get(statement.line, "")
        if name not in sources.names.all_of({leaf})[leaf] or sources.cuts.kind(cut) not in (
            "no_grad",
            "inference_mode",
        ):
            return None
        names[cut] = name
    lines = [f"line {index.op_line(cut)} gives the name {name} to a new tensor" for cut, name in names.items()]
    region = sources.cuts.where(cuts[0])
    return _Untracked(
        f"{listed(lines)}, computed without a graph ({region})",
        [*(cause for cut in cuts for cause in sources.cause("made", cut)), *sources.cut_causes(cuts)],
        cuts[0],
        [Evidence("ops", one) for one in cuts],
        "Write into the tensor instead (-=, copy_): it stays the leaf that requires grad.",
    )


def _left_torch(sources: Sources, op: int) -> _Untracked | None:
    """It was built from plain numbers, and tracked values had become such before."""
    left = sources.gradients.values_left_before(op)
    if left is None:
        return None
    cuts, rebuilt = left
    where = listed(list(dict.fromkeys(map(sources.cuts.where, cuts))))
    return _Untracked(
        f"it was built from plain numbers at line {sources.index.op_line(rebuilt)}, and the graph was cut at {where}",
        [*sources.cut_causes(cuts), *sources.cause("made", rebuilt)],
        cuts[0],
        [Evidence("ops", one) for one in (*cuts, rebuilt)],
    )


def _frozen(sources: Sources, op: int) -> _Untracked | None:
    """All that it was made from and that required grad before was set not to."""
    changes = sources.index.recording.changes
    rows = _set_off_behind(sources, op)
    causes = [cause for row in rows for cause in sources.cause("set", changes[row].op)]
    if not causes:
        return None
    leaves = sources.listed([sources.names.at(changes[row].tensor, op) for row in rows])
    lines = listed([f"line {line}" for line in dict.fromkeys(cause.line for cause in causes)])
    return _Untracked(
        f"{lines} switched requires_grad off for {leaves}, and nothing else that it was made from has it",
        causes,
        changes[rows[0]].op,
        [Evidence("changes", row) for row in rows],
    )


def _frozen_since(sources: Sources, op: int) -> _Untracked | None:
    """Earlier runs of the line gave gradients to leaves that were frozen since: what was cut was so in those."""
    index, changes, statement = sources.index, sources.index.recording.changes, sources.index.op_statement[op]
    rows = [
        row
        for row in _set_off_behind(sources, op)
        if any(index.op_statement[one] == statement for one in sources.lives.passes.get(changes[row].tensor, ()))
    ]
    if not rows:
        return None
    function = index.function_of(op)
    spans = list(dict.fromkeys(span_in_function(index, sources.events, changes[row].op, function) for row in rows))
    leaves = sources.listed([sources.names.at(changes[row].tensor, op) for row in rows])
    lines = listed([f"line {index.span_line(span)}" for span in spans])
    return _Untracked(
        f"{lines} switched requires_grad off for {leaves}, which this line gave gradients before, and nothing has "
        "switched it on again",
        [cause for span in spans for cause in sources.cause_of_span("set", span)],
        changes[rows[0]].op,
        [Evidence("changes", row) for row in rows],
    )


def _left_behind(sources: Sources, op: int, root: int) -> _Untracked | None:
    """A reentrant checkpoint's function computed it, and kept it beside what it returned."""
    index = sources.index
    found = left_in_checkpoint(index, sources.flow, sources.cuts, root, op)
    if found is None:
        return None
    told, line = sources.cuts.reentrant.told_at(found.call), index.span_line(found.call.span)
    reentrant = "use_reentrant=True" + (f" (line {index.line(*told)})" if told is not None else "")
    return _Untracked(
        f"line {line} runs checkpoint with {reentrant}, whose function has no graph in the forward pass, and line "
        f"{index.op_line(index.made_by(found.left))} computed a value in there that it does not return",
        [
            *([sources.cause_of_line("set", *told, told[1], "")] if told is not None else []),
            *sources.cause_of_event("cut", found.call),
        ],
        op,
        [Evidence("events", found.call.row)],
        "Call it with use_reentrant=False, or return the value from what is checkpointed.",
    )


def _constants(sources: Sources, op: int, root: int) -> _Untracked | None:
    """All that it was made from, right before, was made of nothing: the losses of a batch without a target."""
    index, made = sources.index, sources.index.made_by(root)
    taken = list(index.uses.of(made)) if 0 <= made < index.op_count else []
    flags = index.recording.tensors.column("flags")
    is_new = all(not flags[one] & EXTERNAL and not len(index.uses.of(index.made_by(one))) for one in taken)
    if not taken or not is_new or not all(is_number(index, one) for one in taken):
        return None
    shown = [f"{sources.names.at(one, op)} (line {index.op_line(index.made_by(one))})" for one in taken]
    several = "new constants" if len(taken) > 1 else "a new constant"
    return _Untracked(
        "nothing that it was made from requires grad; it was made at line "
        f"{index.op_line(made)} from {listed(shown)}, {several}",
        [*(cause for one in taken for cause in sources.made_at(one)), *sources.made_at(root)],
        op,
        [Evidence("tensors", one) for one in taken],
        "Where there is nothing to compute a loss from, give one that leads to the outputs: outputs.sum() * 0.",
    )


def _unknown(sources: Sources, op: int, root: int) -> _Untracked:
    why = f"nothing that it was made from requires grad; it was {sources.made(root)}"
    return _Untracked(why, sources.made_at(root), op, [])


def _set_off_behind(sources: Sources, op: int) -> list[int]:
    """The changes that switched requires_grad off, for all leaves behind the root of a pass that had it before."""
    index, changes = sources.index, sources.index.recording.changes
    behind = sources.flow.origins_of_all(sources.gradients.roots[op], op)
    last = [[row for row in index.changed_ops.get(leaf, ()) if changes[row].op < op][-1:] for leaf in behind]
    return sorted(row for rows in last for row in rows if changes[row].before and not changes[row].after)


DIAGNOSIS = Diagnosis(
    code="backward-no-grad",
    title="backward() on a tensor that does not require grad",
    severity="problem",
    explanation=Explanation(
        meaning="""backward() (or autograd.grad) was called on a tensor that autograd does not track. torch raises
            "element 0 of tensors does not require grad and does not have a grad_fn". The backward of a custom Function
            (the adjoint method of torchdiffeq) may do so with what it calls.""",
        reason="""A result requires grad only if grad mode was on and one of its inputs required grad. Between the
            parameters and the loss something broke that chain: detach(), .data, a no_grad block, .item() or
            numpy, torch.tensor() around a tensor, a comparison, argmax or integer cast. Setting requires_grad on
            the loss silences the error and trains nothing.""",
        remedy="""Change the line that cut the graph: compute with the tensor itself, not with its detached or
            plain value. If nothing before the loss requires grad, set requires_grad=True on the leaves that you
            want to train.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
prediction = (w * 2).detach()
loss = prediction.sum()
loss.backward()
""",
        instead_of="prediction = (w * 2).detach()",
        silent="prediction = w * 2",
    ),
    find=_find,
)

"""A term of a loss that changes its value and no gradient: a number, a constant, what was computed without a graph."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.gradients.graph_not_made import graph_not_made
from gradscope.analysis.diagnoses.gradients.number_added import number_added
from gradscope.analysis.diagnoses.gradients.term_left_out import terms_that_derivatives_leave_out
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.diagnoses.zeroing_arguments import zeroing_argument
from gradscope.analysis.facts.derivatives.zero_derivatives import ZeroGradients
from gradscope.analysis.facts.graphs.loss_terms import is_number, terms_without_gradient
from gradscope.analysis.facts.graphs.lost_terms import LostTerm, LostTerms
from gradscope.analysis.facts.graphs.terms_of_copies import TermOfCopies, TermsOfCopies
from gradscope.analysis.facts.losses.evaluated_terms import evaluated_term
from gradscope.analysis.facts.passes.gradient_lives import first_after, ops_between
from gradscope.analysis.facts.reaching.called_cuts import call_of_cut
from gradscope.analysis.facts.reaching.run_in_regions import RunInRegions
from gradscope.analysis.facts.tracking.left_in_checkpoints import left_in_checkpoint
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.analysis.wording import listed
from gradscope.frames.without_effect.unread_arguments import Unread, unread_arguments
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import OpKind

_ADDS = ("add", "add_", "__iadd__")
_SUBTRACTS = ("sub", "sub_", "__isub__", "rsub", "__rsub__")

_CONSTANTS = 32
"""Terms without a gradient of one loss that are followed back."""


def _find(sources: Sources) -> Iterator[Finding]:
    """For the last pass of each place before a step of each optimizer: one finding for each term."""
    index, said, places = sources.index, set[int](), set[tuple[int, int]]()
    flags, kinds = (index.recording.ops.column(name) for name in ("flags", "kind"))
    zeros = ZeroGradients(index, sources.passes, sources.looks, sources.functions)
    for op in (op for group in sources.gradients.groups for op in sources.passes_by_step.last_of_each(group.ops)):
        if flags[op] & RAISED or kinds[op] != OpKind.BACKWARD:
            continue
        for root in (one for one in sources.gradients.roots[op] if index.requires_grad(one, op)):
            terms = terms_without_gradient(index, root, op)
            lost = LostTerms(index, sources.flow, sources.cuts)
            constants = terms.constants[:_CONSTANTS]
            is_meant = any(lost.is_meant(tensor, at) for tensor, at in constants)
            for tensor, at in constants:
                found = None
                made = index.made_by(tensor)
                place = (index.op_statement[at], index.op_statement[made] if 0 <= made < index.op_count else NONE)
                if place not in places:
                    found = _of_checkpoint(sources, tensor, at, root)
                if place not in places and found is None:
                    found = _of_gradient(sources, tensor, at, root) or _unread(sources, tensor, at, root)
                    if found is None and not is_meant and is_number(index, tensor):
                        found = _lost(sources, lost.of(tensor, at), tensor, at, root)
                    if found is None:
                        found = _penalty(sources, lost, tensor, at, root, op)
                    if found is None:
                        found = _evaluated(sources, tensor, at, root, op)
                if found:
                    places.add(place)
                    said.add(index.op_statement[at])
                    yield found
            for tensor in terms.tracked if len(terms.tracked) > 1 and not is_meant else ():
                ops = zeros.ending(index.recording.tensors.column("node")[tensor])
                if ops and index.op_statement[ops[-1]] not in said:
                    said.add(index.op_statement[ops[-1]])
                    yield _flat(sources, zeros, tensor, root, ops)
            for at in terms.with_numbers:
                if index.op_statement[at] not in said and (found := _number(sources, lost, at, root)):
                    said.add(index.op_statement[at])
                    yield found
    yield from terms_that_derivatives_leave_out(sources)


def _of_checkpoint(sources: Sources, tensor: int, at: int, root: int) -> Finding | None:
    """A constant that was computed from what a reentrant checkpoint's function kept beside what it returns."""
    index = sources.index
    found = left_in_checkpoint(index, sources.flow, sources.cuts, tensor, at) if is_number(index, tensor) else None
    if found is None:
        return None
    told = sources.cuts.reentrant.told_at(found.call)
    reentrant = "use_reentrant=True" + (f" (line {index.line(*told)})" if told is not None else "")
    made = index.op_line(index.made_by(found.left))
    return sources.finding(
        f"Line {index.span_line(found.call.span)}: checkpoint with {reentrant} runs its function without a graph, and "
        f"no gradient flows through {sources.names.at(tensor, at)}, a term of {sources.names.of(root)}",
        why=f"line {made} computed it in there, and only what the function returns gets a graph",
        op=at,
        tensors=[tensor],
        causes=[
            *([sources.cause_of_line("set", *told, told[1], "")] if told is not None else []),
            *sources.cause_of_event("cut", found.call),
        ],
        evidence=[Evidence("events", found.call.row)],
        advice="Call it with use_reentrant=False, or return the term from what is checkpointed.",
    )


def _of_gradient(sources: Sources, tensor: int, at: int, root: int) -> Finding | None:
    """A constant that was computed from gradients without a graph, of tensors that lead to leaves."""
    index, kinds = sources.index, sources.index.recording.ops.column("kind")
    steps = sources.flow.origins(tensor, at)
    asked = max((step.op for step in steps.values() if step.op in index.creating_graphs), default=NONE)
    if asked >= 0:
        return _of_once_differentiable(sources, tensor, at, root, asked)
    ways = [sources.flow.path(steps, one) for one in steps if index.is_leaf_with_grad(one, at)]
    lost = [[step.op for step in way if step.loses] for way in ways]
    cuts = [ops[0] for ops in lost if len(ops) == 1 and kinds[ops[0]] == OpKind.GRAD]
    return graph_not_made(sources, tensor, at, root, cuts) if cuts else None


def _of_once_differentiable(sources: Sources, tensor: int, at: int, root: int, asked: int) -> Finding | None:
    """A constant that was computed from gradients which custom Functions gave that cannot be differentiated again."""
    index, nodes = sources.index, sources.index.recording.tensors.column("node")
    names = index.recording.nodes.column("name")
    behind = {node for one in index.roots[asked] if nodes[one] >= 0 for node in sources.passes.behind(nodes[one])}
    written = {sources.functions.of_node(node) for node in behind if names[node] in index.custom_functions}
    marked = [(one, one.once_differentiable) for one in written if one is not None]
    places = sorted(place for _, place in marked if place is not None)
    if not places:
        return None
    functions = listed(sorted({one.name for one, place in marked if place is not None}))
    return sources.finding(
        f"Line {places[0].line}: the backward of {functions} is once_differentiable",
        why=f"so the gradients of line {index.op_line(asked)} have no graph, in spite of create_graph=True, and no "
        f"gradient flows through {sources.names.at(tensor, at)}, a term of {sources.names.of(root)}",
        op=at,
        tensors=[tensor],
        causes=sources.causes_at("returned", places),
        evidence=[Evidence("ops", asked)],
        advice="Leave the decorator out where backward is made of torch's functions: then it has a derivative itself.",
    )


def _unread(sources: Sources, tensor: int, at: int, root: int) -> Finding | None:
    """A constant that a function computed which was given something with a graph, and never read it."""
    index, text = sources.index, sources.index.recording.text
    if not is_number(index, tensor):
        return None
    seen = set[int]()
    ops = sorted({step.op for step in sources.flow.origins(tensor, at).values() if 0 <= step.op < at}, reverse=True)
    for op in ops:
        where = index.statements[index.op_statement[op]]
        is_new = where.function not in seen
        seen.add(where.function)
        if not is_new or where.file < 0 or not text(where.function).rpartition(".")[2].isidentifier():
            continue
        for unread in unread_arguments(index.recording.files[where.file].text, where.line):
            given = _given(sources, where.file, unread, at)
            if given >= 0:
                return _of_others(sources, unread, given, _taking_others(index, op), tensor, at, root)
    return None


def _taking_others(index: Index, last: int) -> list[int]:
    """The ops up to one, in one run of its function, that took what was not computed there."""
    functions = [index.statements[index.op_statement[op]].function for op in range(last + 1)]
    first = last
    while first and functions[first - 1] == functions[last]:
        first -= 1
    made_at = index.recording.tensors.column("op")
    return [op for op in range(first, last + 1) if any(made_at[taken] < first for taken in index.uses.of(op))]


def _of_others(
    sources: Sources, unread: Unread, given: int, ops: list[int], tensor: int, at: int, root: int
) -> Finding:
    lines = [str(line) for line in sorted({sources.index.op_line(op) for op in ops})]
    return sources.finding(
        f"{_named(sources, tensor, at)} is a term of {sources.names.of(root)}, and no gradient flows through it",
        why=f"{unread.function} (line {unread.line}) never reads its argument {unread.argument}, which has one; what "
        f"it computes with has none (line{'s' * (len(lines) > 1)} {listed(lines)})",
        op=at,
        tensors=[tensor, given],
        causes=[cause for op in reversed(ops) for cause in sources.cause("cut", op)],
        evidence=[Evidence("ops", op) for op in ops],
        advice=f"Compute it from {unread.argument}.",
    )


def _given(sources: Sources, file: int, unread: Unread, before: int) -> int:
    """The tensor that a call gave for an argument, seen by its name there, where it required grad; or NONE."""
    index = sources.index
    for binding in reversed(list(index.recording.bindings)):
        if binding.op >= before or binding.span < 0 or index.recording.text(binding.name) != unread.given:
            continue
        span = index.recording.spans[binding.span]
        is_there = span.file == file and unread.first_line <= span.line <= unread.last_line
        if is_there:
            return binding.tensor if index.requires_grad(binding.tensor, binding.op) else NONE
    return NONE


def _lost(sources: Sources, lost: LostTerm | None, tensor: int, at: int, root: int) -> Finding | None:
    """A constant that was computed from leaves, by a call that has no derivative or gives plain values."""
    if lost is None:
        return None
    index, line = sources.index, sources.index.op_line(lost.cut)
    if lost.built is not None:
        there = "there" if lost.built == line else f"at line {lost.built}"
        why = f"its values left torch at line {line} ({index.call_name(lost.cut)}), and a new tensor was built {there}"
    else:
        why = f"line {line} cut it off ({sources.cuts.cause(lost.cut)})"
    return sources.finding(
        f"{_named(sources, tensor, at)} is a term of {sources.names.of(root)}, and no gradient flows through it",
        why=why,
        op=at,
        tensors=[tensor],
        causes=sources.cut_causes([lost.cut]),
        evidence=[Evidence("ops", lost.cut)],
        advice="It changes what the loss is, and nothing that is trained.",
    )


def _is_for_frozen(sources: Sources, frozen: list[int], cut: list[int], op: int) -> bool:
    """Whether a term was there to train what was frozen meanwhile, and not what was cut off it.

    A discriminator judges what a generator made under no_grad: where the discriminator is frozen, that is what left the
    term without a gradient. What was cut off is trained by steps of others; those that follow this pass leave it alone.
    """
    lives = sources.lives
    if not any(one in lives.passes for one in frozen):
        return False
    following = first_after(sources.hooks.pass_ops, op)
    end = following if following >= 0 else sources.index.op_count
    steps = [lives.steps.get(leaf, []) for leaf in cut]
    return all(known and not ops_between(known, op, end) for known in steps)


def _penalty(sources: Sources, lost: LostTerms, tensor: int, at: int, root: int, op: int) -> Finding | None:
    """A term that penalises what is trained, computed from values that were cut off it."""
    index = sources.index
    name = index.func(at).rpartition(".")[2]
    if name not in (*_ADDS, *_SUBTRACTS) or not is_number(index, tensor):
        return None
    found = lost.penalty(tensor, at, op, sources.events.in_optimizers, is_added=name in _ADDS)
    if found is None or _is_for_frozen(
        sources, lost.frozen(tensor, at, sources.events.in_optimizers), found.leaves, op
    ):
        return None
    of_copies = TermsOfCopies(index, sources.flow)
    copies = of_copies.of(tensor, at, found)
    if copies is not None:
        return _of_copies(sources, copies, tensor, at, root, found.leaves)
    found = of_copies.without_old(tensor, at, found)
    cuts = list(dict.fromkeys(sources.cuts.line_to_change(cut) for cut in found.cuts))
    where = listed(list(dict.fromkeys(sources.cuts.where(cut) for cut in found.cuts)))
    causes = [cause for cut in cuts for cause in sources.cause("cut", cut)]
    regions = RunInRegions(index, sources.events)
    inside = [regions.at(leaf, way) for leaf, way in zip(found.leaves, found.ways, strict=True)]
    statements = dict.fromkeys(one for one in inside if one is not None)
    if len(statements) == 1 and None not in inside:
        ((statement, region),) = statements
        where = f"line {statement.line}, inside the {region.mode} of line {region.line}, which is there for others"
        causes = [*sources.causes_at("cut", [statement]), *causes]
    calls = set() if len(found.cuts) > 1 else {call_of_cut(index, sources.cuts, way) for way in found.ways}
    called = calls.pop() if len(calls) == 1 else None
    if called is not None:
        where = f"{where}, in what line {called.line} calls"
        causes = [*sources.causes_at("cut", [called]), *causes]
    names = sources.listed([sources.names.at(leaf, op) for leaf in found.leaves])
    return sources.finding(
        f"{_named(sources, tensor, at)} is a term of {sources.names.of(root)}, and no gradient flows through it",
        why=f"it was computed from {names}, cut off at {where}",
        op=at,
        tensors=[tensor, *found.leaves],
        causes=causes,
        evidence=[Evidence("ops", cut) for cut in found.cuts],
        advice="It changes what the loss is, and nothing that is trained.",
    )


def _of_copies(sources: Sources, copies: TermOfCopies, tensor: int, at: int, root: int, leaves: list[int]) -> Finding:
    """A term that was computed from copies of parameters where the parameters were meant."""
    index, overwritten = sources.index, copies.overwritten
    names = sources.listed([sources.names.at(leaf, at) for leaf in leaves])
    if overwritten is not None:
        line = index.line(copies.file, overwritten.line)
        why = (
            f"line {line} gives the name {overwritten.name} another value before anything has read the parameter, and "
            f"nothing but earlier copies of {names} is left to compute it from"
        )
        causes = [sources.cause_of_line("cut", copies.file, overwritten.line, overwritten.end_line, "")]
    else:
        why = f"line {index.op_line(copies.used)} computes it from earlier copies of {names} alone"
        causes = sources.cause("used", copies.used)
    return sources.finding(
        f"{_named(sources, tensor, at)} is a term of {sources.names.of(root)}, and no gradient flows through it",
        why=why,
        op=at,
        tensors=[tensor, *leaves],
        causes=causes,
        evidence=[Evidence("ops", copies.used)],
        advice="Compute it from the parameters themselves, which require grad.",
    )


def _evaluated(sources: Sources, tensor: int, at: int, root: int, op: int) -> Finding | None:
    """A term that another network computed, without a graph, from what the loss is to train."""
    index = sources.index
    reached = {leaf for leaf, passes in sources.lives.passes.items() if op in passes}
    found = evaluated_term(index, sources.flow, sources.cuts, sources.passes, tensor, at, reached)
    if found is None:
        return None
    return sources.finding(
        f"{_named(sources, tensor, at)} is a term of {sources.names.of(root)}, and no gradient flows through it",
        why=f"it was computed from {_given_as(sources, found.given, found.cut, tensor, at)}, cut off at "
        f"{sources.cuts.where(found.cut)}",
        op=at,
        tensors=[tensor, found.given],
        causes=sources.cause("cut", sources.cuts.line_to_change(found.cut)),
        evidence=[Evidence("ops", found.cut)],
        advice="requires_grad_(False) keeps gradients out of a network's parameters, and the way through it open.",
    )


def _flat(sources: Sources, zeros: ZeroGradients, tensor: int, root: int, ops: list[int]) -> Finding:
    """A term from which no way leads to a leaf but through calls whose derivative is zero everywhere."""
    index = sources.index
    calls = listed(list(dict.fromkeys(index.call_name(op) for op in ops)))
    lines = numbers(index.op_line(op) for op in ops)
    argued = zeroing_argument(sources, ops[-1]) if len(ops) == 1 and zeros.is_by_argument(ops[0]) else None
    given = "" if argued is None else f"{argued.by} with {argued.said}"
    through = f"{calls} (line {lines}), whose derivative{given} is zero everywhere"
    return sources.finding(
        f"{_named(sources, tensor, ops[-1])} is a term of {sources.names.of(root)}, and its gradient is zero",
        why=f"every way from it to a leaf leads through {through}",
        op=ops[-1],
        tensors=[tensor],
        causes=[
            *([] if argued is None else argued.causes),
            *(cause for op in reversed(ops) for cause in sources.cause("cut", op)),
        ],
        evidence=[Evidence("ops", op) for op in ops],
        advice="It changes what the loss is, and nothing that is trained.",
    )


def _named(sources: Sources, tensor: int, at: int) -> str:
    """The name of a term at the call that adds it, with its line where the sum has the same name: ``h = h + y``."""
    index, name = sources.index, sources.names.at(tensor, at)
    if any(sources.names.of(one) == name for one in index.tensors_made(at)):
        name = _of_line(index, name, tensor)
    return f"{name[0].upper()}{name[1:]}" if name.startswith("the ") else name


def _given_as(sources: Sources, given: int, cut: int, tensor: int, at: int) -> str:
    """The name of what a term was computed from, with its line where the term has the same name."""
    name = sources.names.at(given, cut)
    return _of_line(sources.index, name, given) if name == sources.names.at(tensor, at) else name


def _of_line(index: Index, name: str, tensor: int) -> str:
    made = index.made_by(tensor)
    is_plain = name.isidentifier() and 0 <= made < index.op_count and index.op_line(made)
    return f"the {name} of line {index.op_line(made)}" if is_plain else name


def _number(sources: Sources, lost: LostTerms, at: int, root: int) -> Finding | None:
    """A number that the text takes out of a tensor, at a line where a call took it out of one that required grad."""
    index, found = sources.index, number_added(sources, lost, at)
    if found is None:
        return None
    return sources.finding(
        f"Line {index.op_line(at)}: {found.term}, a part of {sources.names.of(root)}, is a plain number, and no "
        "gradient flows through it",
        why=f"line {found.line} ({index.call_name(found.export)}) took it out of the graph",
        op=at,
        tensors=[root],
        causes=sources.cause("cut", found.export),
        evidence=[Evidence("ops", found.export)],
        advice="Add the tensor itself; a number is for logs."
        if index.requires_grad(index.uses.of(found.export)[0], found.export)
        else "It changes what the loss is, and nothing that is trained.",
    )


DIAGNOSIS = Diagnosis(
    code="term-without-gradient",
    title="a term of the loss that no gradient flows through",
    severity="warning",
    explanation=Explanation(
        meaning="""A backward pass started from a sum. One of its terms is a plain number that .item() or float() took
            out of a tensor which autograd tracked, or was computed from the result of autograd.grad without
            create_graph, from values that were turned into a new tensor (NumPy, torch.tensor), or by a call without a
            derivative (a comparison, argmax, a cast to integers). Or all of it was computed from values of trained
            leaves that .data, detach() or no_grad cut off, and which go into nothing that has a gradient. Or another
            network computed it, under no_grad, from something that autograd tracked: the value of an action. Or the
            derivative of a sum (an energy) by an input (positions) was asked for, and one of its terms was computed
            from that input under no_grad, from detach() or with NumPy: forces that lack a part of the energy. Or a
            value that goes into it was computed under no_grad, in a block that is there for indices. Or a
            layer computed it in a reentrant checkpoint, and kept it (self.balance = …) beside what it returns.""",
        reason="""Autograd follows tensors that it tracks. A number, and a gradient without create_graph=True, are
            constants to it: they change what the loss is, and no gradient, whatever weight they get.""",
        remedy="""Add the tensor itself, and take the number only for the log. For a penalty on gradients:
            torch.autograd.grad(…, create_graph=True).""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
error = (w * 2 - 1).pow(2).sum()
penalty = w.norm().item()
loss = error + 0.1 * penalty
loss.backward()
""",
        instead_of="penalty = w.norm().item()",
        silent="penalty = w.norm()",
    ),
    find=_find,
)

"""Updates that only a loop's variable gets: ``for p in params: p = p - lr * p.grad``, and averages of weights."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.lost_averages import LostAverage, lost_average
from gradscope.analysis.facts.memory_writes.unkept_states import UnkeptState, unkept_states
from gradscope.analysis.facts.memory_writes.updated_copies import UpdatedCopy, updated_copies
from gradscope.analysis.facts.writes import last_written
from gradscope.analysis.report_model import Evidence
from gradscope.frames.names.rebound_names import lost_in_loops
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

RUNS = 2
"""Runs of the statement from which on it is reported."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement whose results nothing took, and whose leaves nothing wrote since."""
    index, told = sources.index, set[int]()
    for statement, op in index.last_op.items():
        where = index.statements[statement]
        if where.file < 0 or index.recording.ops.column("kind")[op] != OpKind.CALL:
            continue
        name = lost_in_loops(index.recording.files[where.file].text).get(where.line, "")
        if name and (updates := _updates(sources, op, name)):
            told.add(statement)
            yield _finding(sources, op, name, updates)
        elif name and (lost := lost_average(index, sources.lives, op, name)):
            told.add(statement)
            yield _of_average(sources, lost, name)
    for state in unkept_states(index, sources.lives):
        if index.op_statement[state.op] not in told:
            yield _of_state(sources, state)
    for copy in updated_copies(index, sources.lives):
        if index.op_statement[copy.op] not in told:
            yield _of_copy(sources, copy)


def _updates(sources: Sources, last: int, name: str) -> dict[int, list[int]]:
    """For each leaf the runs of an op that computed from it; empty unless all results were dropped.

    A gradient has to be there before: else it is no update. Leaves that something else writes have to be parameters.
    """
    index, ops = sources.index, sources.index.recording.ops
    spans, funcs = ops.column("span"), ops.column("func")
    runs = [op for op in range(last + 1) if spans[op] == spans[last] and funcs[op] == funcs[last]]
    first_pass, found = min(index.roots, default=index.op_count), dict[int, list[int]]()
    for op in runs:
        leaves = _leaves(sources, op, name)
        if len(leaves) != 1 or any(len(index.users.of(made)) for made in index.tensors_made(op)):
            return {}
        found.setdefault(leaves[0], []).append(op)
    if len(runs) < RUNS or runs[-1] < first_pass:
        return {}
    flags, kept = index.recording.tensors.column("flags"), _are_kept(sources, found)
    return found if kept or all(flags[leaf] & PARAMETER for leaf in found) else {}


def _are_kept(sources: Sources, updates: dict[int, list[int]]) -> bool:
    """Whether nothing wrote the leaves since."""
    index, written = sources.index, last_written(sources.index)
    return all(written.get(index.storage_at(leaf, ops[-1]), NONE) < ops[0] for leaf, ops in updates.items())


def _leaves(sources: Sources, last: int, name: str) -> list[int]:
    """What the call took that is a leaf or a gradient, or else the parameter of that name in the other calls there."""
    index, flags = sources.index, sources.index.recording.tensors.column("flags")
    leaves = [tensor for tensor in index.uses.of(last) if index.is_leaf_with_grad(tensor, last)]
    leaves = leaves or [tensor for tensor in index.uses.of(last) if tensor in sources.lives.owners]
    op = last
    while not leaves and op > 0 and index.op_statement[op - 1] == index.op_statement[last]:
        op -= 1
        leaves = [one for one in index.uses.of(op) if flags[one] & PARAMETER and index.is_leaf(one)]
        held = {one: {index.recording.text(row[0]) for row in sources.names_held.get(one, ())} for one in leaves}
        leaves = [one for one in leaves if name in held[one]]
    return leaves


def _finding(sources: Sources, op: int, name: str, updates: dict[int, list[int]]) -> Finding:
    index, leaves = sources.index, list(updates)
    names = sources.listed([sources.names.of(leaf) for leaf in leaves])
    runs = sum(map(index.times, updates.values()))
    verb = ("keeps", "is") if len(leaves) == 1 else ("keep", "are")
    stay = f"{verb[0]} the old values" if _are_kept(sources, updates) else f"{verb[1]} not changed by it"
    return sources.finding(
        f"Line {index.op_line(op)}: {name} = … gives the loop's variable a new tensor ({runs:,} times), which nothing "
        f"takes; {names} {stay}",
        op=op,
        tensors=leaves,
        causes=sources.cause("made", op),
        evidence=[Evidence("ops", ops[-1]) for ops in updates.values()],
        advice=f"Write into it: {name} -= … or {name}.copy_(…), under no_grad.",
    )


def _of_average(sources: Sources, lost: LostAverage, name: str) -> Finding:
    """An average of weights that nothing keeps."""
    index, tensor = sources.index, lost.averages[0]
    weight = sources.names.of(lost.weights[0])
    return sources.finding(
        f"Line {index.op_line(lost.op)}: {name} = … gives a name of this block a new tensor ({lost.runs:,} times), "
        "which nothing takes",
        why=f"what {name} stood for ({sources.names.of(tensor)}) was never written and keeps its old values, however "
        f"the weights that are mixed in ({weight}) are trained",
        op=lost.op,
        tensors=lost.averages,
        causes=sources.cause("made", lost.op),
        evidence=[Evidence("tensors", lost.weights[0])],
        advice=f"Write into it: {name}.lerp_(…), or {name}.mul_(…).add_(…), under no_grad.",
    )


def _of_state(sources: Sources, state: UnkeptState) -> Finding:
    """A running value of gradients that begins from the same old one in each round."""
    index, name = sources.index, state.name
    olds = sources.listed([sources.names.of(old) for old in state.olds])
    return sources.finding(
        f"Line {index.op_line(state.op)}: {name} = … gives a name of this block a new tensor ({state.runs:,} times), "
        "which is gone when the line runs again",
        why=f"what {name} stood for ({olds}) was never written, and each run begins from that again: nothing of "
        "earlier gradients is carried on",
        op=state.op,
        tensors=state.olds,
        causes=sources.cause("made", state.op),
        advice=f"Write into it, {name}.mul_(…).add_(…) under no_grad, or store {name} where it came from.",
    )


def _of_copy(sources: Sources, copy: UpdatedCopy) -> Finding:
    """An update of a copy of weights, which nothing puts back."""
    index = sources.index
    weights = sources.listed([sources.names.of(leaf) for leaf in copy.leaves])
    is_vector = index.func(copy.copied).endswith("parameters_to_vector")
    copied = index.tensors_made(copy.copied)[-1]
    how = f"vector_to_parameters({sources.names.of(copied)}, …) puts it back." if is_vector else ""
    return sources.finding(
        f"Line {index.op_line(copy.op)}: the update ({copy.runs:,} times) goes into a copy of the weights, made at "
        f"line {index.op_line(copy.copied)}, and nothing takes it from there",
        why=f"{weights} {'keeps' if len(copy.leaves) == 1 else 'keep'} the old values",
        op=copy.op,
        tensors=copy.leaves,
        causes=[*sources.cause("write", copy.op), *sources.cause("made", copy.copied)],
        evidence=[Evidence("ops", copy.copied)],
        advice=how or "Write into the weights themselves under no_grad, or copy_() the result into them.",
    )


DIAGNOSIS = Diagnosis(
    code="update-lost",
    title="an update that only a name of a block gets",
    severity="warning",
    explanation=Explanation(
        meaning="""In a loop over parameters an update is computed and given to the loop's variable. Nothing uses it,
            and the parameters themselves were never written. Likewise an average of weights that was given to the
            variable, or to a function's argument, while the average itself stayed as it was. Or a sum of
            gradients (momentum) begins from the same tensor in each step, as its result was only a name's; or a copy
            of weights (parameters_to_vector, clone) was updated and not put back.""",
        reason="""p = p - lr * p.grad makes a new tensor and lets the name p stand for it until the loop goes on. The
            list, and the model, still hold the old one.""",
        remedy="""Write into the parameter: p -= lr * p.grad under torch.no_grad(), or use an optimizer of
            torch.optim. An average: average.lerp_(p, 0.01), or average.mul_(0.99).add_(p, alpha=0.01).""",
    ),
    example=Example(
        shows="""\
import torch

weights = [torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)]
for step in range(3):
    (weights[0] * weights[1]).sum().backward()
    with torch.no_grad():
        for w in weights:
            w = w - 0.1 * w.grad
    weights[0].grad = weights[1].grad = None
""",
        instead_of="w = w - 0.1 * w.grad",
        silent="w -= 0.1 * w.grad",
    ),
    find=_find,
)

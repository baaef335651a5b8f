"""Memory that every run of a loop leaves behind, since a graph that no backward pass used up keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.memory.graph_carried_along import AT_LEAST, RUNS, carried_on, graphs_carried
from gradscope.analysis.diagnoses.memory.graph_kept_after_pass import line_that_keeps, lines_that_keep, results_kept
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.made_of_gradients import MadeOfGradients, made_of_gradients
from gradscope.analysis.facts.memory.keepers import keeper
from gradscope.analysis.facts.memory.kept_results import KeptResults, kept_results
from gradscope.analysis.facts.memory_writes.tracked_writes import tracked_writes
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.passes.node_lifetimes import held_until
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.analysis.report_model import Evidence, Severity
from gradscope.analysis.sizes import size
from gradscope.analysis.worded_lines import numbers
from gradscope.analysis.wording import listed
from gradscope.recording import NONE
from gradscope.recording.flags import LEAF, PARAMETER, RAISED
from gradscope.recording.rows import OpKind

WORTH_SAYING = 64 * 1024
"""Bytes from which on a program without any backward pass is told of the third run already."""


def _find(sources: Sources) -> Iterator[Finding]:
    """Results that keep the graphs of gradients; else statements whose memory a graph still keeps when the run ends."""
    of_gradients = made_of_gradients(sources.index, sources.passes)
    if of_gradients is not None and of_gradients.kept:
        yield _of_gradients(sources, of_gradients)
    else:
        yield from _left_behind(sources)


def _of_gradients(sources: Sources, found: MadeOfGradients) -> Finding:
    """What is kept of gradients to which a pass gave a graph that none walks."""
    index = sources.index
    kept_by = keeper(index, found.kept, sources.names_held)
    kept = lines_that_keep(sources, kept_by) if kept_by is not None else []
    where = (
        f"{kept_by.put.holder} (line {index.line(kept_by.file, kept_by.put.line)})"
        if kept_by is not None
        else "the program"
    )
    return sources.finding(
        f"Line {index.op_line(found.backward)}: create_graph=True gives the gradients of {found.passes:,} passes a "
        "graph, and no backward pass walks any of them",
        why=f"{where} keeps {index.kept_with(found.kept):,} results of these gradients, and so the graphs of these "
        "passes",
        op=found.backward,
        tensors=[found.kept[-1]],
        causes=[*sources.cause("backward", found.backward), *kept],
        evidence=[Evidence("ops", found.backward), Evidence("tensors", found.kept[0])],
        advice="Leave create_graph out where no second derivative is wanted.",
    )


def _left_behind(sources: Sources) -> Iterator[Finding]:
    """Statements of a loop whose memory a graph still keeps when the run ends."""
    index, passes = sources.index, sources.passes
    recording = index.recording
    saved = _saved_by_unused_nodes(index, passes)
    for tensor in results_kept(sources) if any(saved) else ():
        storage = recording.tensors.column("storage")[tensor]
        if storage >= 0:  # the line that keeps the result is said to, whatever else was made from it
            saved[storage] = 0
    for storage in _kept_by_carried(sources) if any(saved) else ():
        saved[storage] = 0
    made: dict[int, int] = {}
    kept: dict[int, int] = {}
    nbytes: dict[int, int] = {}
    keeping: dict[tuple[int, int], set[int]] = {}
    by_op: dict[int, int] = {}
    left_by: dict[int, set[int]] = {}
    columns = (recording.storages.column(name) for name in ("op", "died", "nbytes", "external"))
    for storage, (op, died, held, external) in enumerate(zip(*columns, strict=True)):
        if external or op >= index.op_count or not saved[storage] or op in sources.tracked_behind:
            continue  # (what ran behind a no_grad() that nothing entered is said to come from that)
        statement = index.op_statement[op]
        made[statement] = made.get(statement, 0) + index.weights[op]
        if died == NONE:
            times = 1 + index.alike_storages.get(storage, 0)
            kept[statement] = kept.get(statement, 0) + times
            nbytes[statement] = nbytes.get(statement, 0) + held * times
            keeping.setdefault((statement, recording.ops.column("span")[op]), set()).add(op)
            by_op[op] = max(by_op.get(op, 0), times)
            left_by.setdefault(statement, set()).add(storage)
    runs = sources.runs.of
    leaving = _runs_that_left(index, runs, by_op)
    results = kept_results(index, sources.names, sources.names_held, AT_LEAST)
    holder, written_at = _deepest_accumulator(index, sources.names), NONE
    if holder < 0 and results is None:
        holder, written_at = _written_into(index, sources.names)
    if holder >= 0 and not _keeps_most(_saved_behind(sources, [index.node_after(holder)]), left_by):
        holder = written_at = NONE
    is_known = results is not None or holder >= 0
    is_large = sum(nbytes.values()) >= WORTH_SAYING and not len(recording.backwards)
    enough = AT_LEAST if is_large or (is_known and _goes_on(index, keeping)) else RUNS
    leaking = [
        key for key, count in kept.items() if key != NOWHERE and leaving[key] >= enough and count * 2 > made[key]
    ]
    differentiated = _kept_by_gradients(index, passes) if holder < 0 and results is None else NONE
    if leaking and holder < 0 and results is None and differentiated < 0:
        living = _saved_by_living_graphs(index, passes)
        leaking = [key for key in leaking if _keeps_most(living, {key: left_by[key]})]
    if not leaking or (holder >= 0 and _is_mostly_walked(index, passes, holder)):
        return
    total, lines = sum(nbytes[key] for key in leaking), [index.statements[key].line for key in leaking]
    blocks = sum(kept[key] for key in leaking)
    left = f"{blocks:,} blocks ({size(total)}) saved for backward are still there at the end"
    worst = max(leaking, key=nbytes.__getitem__)
    which = "every run leaves" if all(kept[key] == made[key] for key in leaking) else "most runs leave"
    advice = ""
    severity: Severity | None = None
    if holder >= 0:
        by_hand = sources.cause("made", written_at) if written_at >= 0 else carried_on(sources, holder)
        written = by_hand or sources.made_at(holder)
        (cause, *_) = causes = written or sources.cause("made", index.last_op[worst])
        where, because = f"Line {cause.line}", f": the graph of {sources.names.of(holder)} keeps them"
        about = [holder]
    elif results is not None:
        causes, about = lines_that_keep(sources, results.kept_by), [results.tensors[-1]]
        where = f"Line {line_that_keeps(sources, results.kept_by)}"
        graphs = f"the graphs of {_at_least(sources, results)}{index.kept_with(results.tensors):,} results"
        because = f": {results.container} keeps {graphs}"
        if (default := results.kept_by.default) is not None:
            because = f": the default of {default.name}, made once for all calls of {default.function}, keeps {graphs}"
        elif (emptied := results.kept_by.emptied) is not None:
            because = f": {results.container}, which is not emptied with {listed(emptied.others)}, keeps {graphs}"
        if results.by_traceback:
            because = f": {results.container} keeps exceptions, and the frames in their tracebacks {graphs}"
            advice = "Keep str(error), or error.with_traceback(None), which lets go of the frames."
    elif differentiated >= 0:
        causes, about = sources.cause("backward", differentiated), []
        where = f"Line {index.op_line(differentiated)}"
        because = ": create_graph=True gives .grad a graph that leads back to its tensor, and so each keeps the other"
    else:
        # Where the whole program runs no backward pass, no graph is needed at the line that makes it.
        causes = [] if len(recording.backwards) else sources.cause("made", index.last_op[worst])
        about, because = [], ""
        storage_op = recording.storages.column("op")
        made_by = {storage_op[storage] for key in leaking for storage in left_by[key]}
        if len(recording.backwards) and all(sources.libraries.makes[op] for op in made_by):
            # (a cache of the library's: whatever line one would change is none of the program's)
            because, severity = ", made by a library; no line was seen that keeps them", "note"
        where = f"Line{'s' * (len(lines) > 1)} {numbers(lines, at_most=4)}"
    yield sources.finding(
        f"{where}: {which} memory behind; {left}{because}",
        op=index.last_op[worst],
        tensors=about,
        causes=causes,
        advice=advice,
        severity=severity,
    )


def _at_least(sources: Sources, results: KeptResults) -> str:
    """Says so where the calls that made them made others that live, and that were not found at the end by any name."""
    tensors, ops = sources.index.recording.tensors, sources.index.recording.ops
    made_at, nodes, died = (tensors.column(name) for name in ("op", "node", "died"))
    spans, funcs = ops.column("span"), ops.column("func")
    calls = {(spans[op], funcs[op]) for one in results.tensors if (op := made_at[one]) < len(ops)}
    others = (
        one
        for one, op in enumerate(made_at)
        if op < len(ops) and nodes[one] >= 0 and died[one] == NONE and (spans[op], funcs[op]) in calls
    )
    held = sources.names_held
    is_all = all(any(span == NONE for _, _, span in held.get(one, ())) for one in others)
    return "" if is_all else "at least "


def _kept_by_carried(sources: Sources) -> set[int]:
    """What graphs saved that are said to be carried along: by all that these lines made and that is still there."""
    index = sources.index
    statements = {index.op_statement[one.op] for one in graphs_carried(sources)}
    columns = (index.recording.tensors.column(name) for name in ("op", "died", "node"))
    made = [
        node
        for made_at, died, node in (zip(*columns, strict=True) if statements else ())
        if died == NONE and made_at < index.op_count and index.op_statement[made_at] in statements
    ]
    return _saved_behind(sources, made) if made else set()


def _saved_behind(sources: Sources, roots: list[int]) -> set[int]:
    """The storages that the graphs behind some nodes have saved."""
    starts, following = sources.passes.edge_starts, sources.index.edges.values
    nodes, stack = set[int](), list(roots)
    while stack:
        node = stack.pop()
        if node >= 0 and node not in nodes:
            nodes.add(node)
            stack += following[starts[node] : starts[node + 1]]
    saved = sources.index.recording.saved
    columns = (saved.column(name) for name in ("node", "storage"))
    return {storage for node, storage in zip(*columns, strict=True) if node in nodes and storage >= 0}


def _keeps_most(saved: set[int], left: dict[int, set[int]]) -> bool:
    """Whether most of what the runs of some statement left behind is among what a graph has saved."""
    return any(2 * len(saved & storages) > len(storages) >= AT_LEAST for storages in left.values())


def _kept_by_gradients(index: Index, passes: Passes) -> int:
    """The last ``backward(create_graph=True)`` that walked what is still there, where several did; else NONE."""
    backwards, kinds = index.recording.backwards, index.recording.ops.column("kind")
    rows = zip(backwards.column("op"), backwards.column("create_graph"), strict=True)
    with_graph = {op for op, creates in rows if creates == 1 and kinds[op] == OpKind.BACKWARD}
    saved, died = index.recording.saved, index.recording.storages.column("died")
    walked = {
        passes.first_walked_at[node]
        for node, storage in zip(saved.column("node"), saved.column("storage"), strict=True)
        if with_graph and storage >= 0 and died[storage] == NONE
    }
    return max(walked & with_graph) if len(walked & with_graph) >= AT_LEAST else NONE


def _runs_that_left(index: Index, runs: list[int], left: dict[int, int]) -> dict[int, int]:
    """How many runs of each statement left something behind.

    What parts two runs is that another statement made a call, or a backward pass ran. Those of one that stands alone in
    its loop are told by the function that left something most often, at one place of the program's or a library's code.

    Args:
        index: The recording.
        runs: How often each statement ran.
        left: For each op how often it left something.
    """
    if not left:
        return {}
    kinds, statements = index.recording.ops.column("kind"), {index.op_statement[op] for op in left}
    begun, before, parted = dict.fromkeys(statements, 0), NOWHERE, dict[tuple[int, int], int]()
    for op, statement in enumerate(index.op_statement[: index.op_count]):
        if statement in statements:
            begun[statement] += statement != before
            if op in left:
                run = statement, begun[statement]
                parted[run] = max(parted.get(run, 0), left[op])
        before = NOWHERE if kinds[op] == OpKind.BACKWARD else statement
    found: dict[int, int] = {}
    for (statement, _), times in parted.items():
        found[statement] = found.get(statement, 0) + times
    alone = [op for op in left if begun[index.op_statement[op]] == 1]
    if not alone:
        return found
    columns = [index.op_statement, *(index.recording.ops.column(name) for name in ("span", "inner", "func"))]
    called = index.times_each(zip(*columns, strict=False))
    by_call: dict[tuple[int, ...], int] = {}
    for op in alone:
        key = tuple(column[op] for column in columns)
        by_call[key] = by_call.get(key, 0) + left[op]
    for key, times in by_call.items():
        found[key[0]] = max(found[key[0]], times // ceil(called[key] / max(runs[key[0]], 1)))
    return found


def _goes_on(index: Index, keeping: dict[tuple[int, int], set[int]]) -> bool:
    """Whether a backward pass ran after the third run that left something: the program does not end in building up."""
    third = min((sorted(ops)[AT_LEAST - 1] for ops in keeping.values() if len(ops) >= AT_LEAST), default=NONE)
    kinds = index.recording.ops.column("kind")
    return third >= 0 and any(kinds[op] == OpKind.BACKWARD for op in range(third, index.op_count))


def _saved_by_unused_nodes(index: Index, passes: Passes) -> bytearray:
    """1 for each storage that nodes had saved which no pass used up, and that the program does not hold itself.

    A parameter, or a leaf that a name holds at the end (a batch in a list), is there whatever the graph keeps. The
    graph of a pass that raised is there since the pass could not use it up: nothing that the loop does keeps it.
    """
    recording, used_up_at, walked_at = index.recording, passes.used_up_at, passes.last_walked_at
    flags = recording.ops.column("flags")
    saved = bytearray(len(recording.storages))
    for node, storage in zip(recording.saved.column("node"), recording.saved.column("storage"), strict=True):
        has_raised = walked_at[node] >= 0 and flags[walked_at[node]] & RAISED
        if storage >= 0 and used_up_at[node] < 0 and not has_raised:
            saved[storage] = 1
    bindings = recording.bindings
    held = bytearray(len(recording.tensors))
    for tensor, span in zip(bindings.column("tensor"), bindings.column("span"), strict=True):
        if span == NONE:  # found at the end of the run
            held[tensor] = 1
    columns = (recording.tensors.column(name) for name in ("storage", "flags", "died"))
    for tensor, (storage, flags, died) in enumerate(zip(*columns, strict=True)):
        if storage >= 0 and flags & LEAF and died == NONE and (flags & PARAMETER or held[tensor]):
            saved[storage] = 0
    return saved


def _saved_by_living_graphs(index: Index, passes: Passes) -> set[int]:
    """The storages that nodes had saved to which a tensor still leads at the end.

    What nodes of other graphs had saved and is there all the same, the program holds: the actions of a replay buffer.
    """
    saved, until = index.recording.saved, held_until(index, passes)
    columns = (saved.column(name) for name in ("node", "storage"))
    return {storage for node, storage in zip(*columns, strict=True) if until[node] == index.op_count}


def _deepest_accumulator(index: Index, names: BestNames) -> int:
    """The last named tensor alive that a statement of a loop made from its own earlier value, or NONE."""
    tensors = index.recording.tensors
    died, node, made_at = tensors.column("died"), tensors.column("node"), tensors.column("op")
    for tensor in range(len(tensors) - 1, -1, -1):
        if died[tensor] != NONE or node[tensor] < 0 or not names.is_named(tensor) or made_at[tensor] >= index.op_count:
            continue
        name = names.best[tensor]
        taken = index.uses.of(made_at[tensor])
        if any(names.best[use] == name and use != tensor for use in taken):
            return tensor
    return NONE


def _is_mostly_walked(index: Index, passes: Passes, tensor: int) -> bool:
    """Whether passes came through most of what the call that made a tensor gave.

    The last of it has its graph still: a term that an evaluation at the end did not use.
    """
    spans, nodes = index.recording.ops.column("span"), index.recording.tensors.column("node")
    span, taken = spans[index.made_by(tensor)], [0, 0]
    for op in (one for one, at in enumerate(spans) if at == span >= 0):
        for made in index.tensors_made(op):
            if nodes[made] >= 0:
                taken[passes.first_walked_at[nodes[made]] >= 0] += index.weights[op]
    return taken[1] > taken[0]


def _written_into(index: Index, names: BestNames) -> tuple[int, int]:
    """The named tensor alive into which a statement of a loop wrote most often what has a graph, and the last write."""
    died = index.recording.tensors.column("died")
    several = [
        (len(ops), tensor, ops[-1])
        for (_, tensor), ops in tracked_writes(index).items()
        if len(ops) >= AT_LEAST and died[tensor] == NONE and names.is_named(tensor)
    ]
    return max(several)[1:] if several else (NONE, NONE)


DIAGNOSIS = Diagnosis(
    code="memory-kept-by-graph",
    title="memory that the runs of a loop leave behind in a graph",
    severity="warning",
    explanation=Explanation(
        meaning="""Memory that operations of a loop saved for backward was still there when the run ended, most of
            it from most of the iterations: no backward pass used its graph up, and something keeps that graph.""",
        reason="""What is saved for backward lives as long as the graph, and the graph lives as long as a tensor
            that leads to it: a sum of losses, a list of outputs, an attribute, a local name of a function in the
            traceback of an exception that is kept. backward(create_graph=True) gives the
            gradients graphs too, which what is computed from them leads to.""",
        remedy="""Keep numbers or detached tensors instead (loss.item(), output.detach()), or run what needs no
            gradient under torch.no_grad().""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(1000, requires_grad=True)
total = 0
for step in range(20):
    total = total + (w * step).exp().sum()
""",
        instead_of="total = total + (w * step).exp().sum()",
        silent="total = total + (w * step).exp().sum().item()",
    ),
    find=_find,
)

"""Names that carry their graph from one backward pass to the next: a sum of losses, a hidden state."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.handed_values import handed_by
from gradscope.analysis.diagnoses.memory.states_in_lists import StatesInList, states_in_list
from gradscope.analysis.diagnoses.passed_uncut import passed_uncut
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.fed_back_gradients import fed_back
from gradscope.analysis.facts.graphs.states_over_passes import Takings
from gradscope.analysis.facts.memory_writes.tracked_writes import tracked_writes
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.passes.passes_inside import runs_passes
from gradscope.analysis.facts.program.streamed_states import StreamedState, streamed_states
from gradscope.analysis.index import NOWHERE, Index
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.calls.carried_attributes import carried_attributes
from gradscope.frames.names.put_statements import last_part
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, REQUIRES_GRAD
from gradscope.recording.rows import OpKind

RUNS = 8
"""Runs of a statement from which on a pattern is called one."""
AT_LEAST = 3
"""Backward passes from which on a graph is carried along that reaches back over all of them."""

_MEANS = ("Tensor.add", "Tensor.lerp", "Tensor.sub")
"""Calls that make a running mean of what it was before and a new value."""
_SCALES = frozenset(
    (
        "add",
        "radd",
        "iadd",
        "sub",
        "rsub",
        "isub",
        "mul",
        "rmul",
        "imul",
        "div",
        "truediv",
        "rtruediv",
        "itruediv",
        "true_divide",
        "multiply",
        "lerp",
        "sum",
        "mean",
        "float",
        "double",
        "to",
        "squeeze",
    )
)
"""Calls by which a sum takes in a value that it is handed, by the last part of their names without underscores."""
_SUMS = ("Tensor.add_", "Tensor.sub_")
"""Calls that ``total += loss`` makes of a tensor that is there before."""


def _find(sources: Sources) -> Iterator[Finding]:
    """The nodes of leaves do not count: they stay as long as the leaves, whatever is made of them."""
    said = set[int]()
    for finding, statement in _over_passes(sources):
        said.add(statement)
        yield finding
    if sources.index.recording.info.outcome.kind in ("ok", "exit"):  # else a pass may have been to come
        yield from _over_a_stream(sources, said)
        yield from _over_rounds(sources)


def _over_rounds(sources: Sources) -> Iterator[Finding]:
    """Gradients that a recursion feeds back with their graphs."""
    index = sources.index
    for found in fed_back(index, sources.passes):
        update, name = index.op_line(found.updates[-1]), sources.names.of(found.tensor)
        let_go = f"detach() what line {update} makes"
        updates = {index.op_statement[op]: op for op in found.updates}
        yield sources.finding(
            f"Line {index.op_line(found.grad)}: create_graph=True gives what it returns a graph, and line {update} "
            f"feeds that back as {name}, with its graph ({len(found.nodes):,} nodes, over {found.rounds:,} rounds)",
            why="each round keeps the graphs of all before it, and no pass at the end walks them",
            op=found.grad,
            tensors=[found.tensor],
            causes=[
                *sources.cause("backward", found.grad),
                *(cause for op in updates.values() for cause in sources.cause("made", op)),
            ],
            evidence=[Evidence("nodes", found.nodes[0]), Evidence("nodes", found.nodes[-1])],
            advice=f"Leave create_graph out there, or {let_go}."
            if found.is_product
            else f"{let_go[0].upper()}{let_go[1:]}.",
        )


def _over_a_stream(sources: Sources, said: set[int]) -> Iterator[Finding]:
    """States of a stream that no backward pass walks."""
    index, names = sources.index, sources.names
    for state in streamed_states(index, sources.passes):
        if index.op_statement[state.op] in said:
            continue
        name = names.of(state.tensor)
        causes = carried_on(sources, state.tensor) or sources.cause("made", state.op)
        line = causes[0].line if causes else index.op_line(state.op)
        yield sources.finding(
            f"Line {line}: {name} carries its graph from each run of the line to the next "
            f"({len(state.nodes):,} nodes, over {state.runs:,} runs)",
            why="no backward pass ever walks it, and numbers are read out of it in between",
            op=state.op,
            tensors=[state.tensor],
            causes=causes,
            evidence=[Evidence("nodes", state.nodes[0]), Evidence("nodes", state.nodes[-1])],
            advice=_let_go(sources, state),
        )


def _let_go(sources: Sources, state: StreamedState) -> str:
    """A pass that runs in between would fail under ``no_grad``."""
    index, made_by = sources.index, sources.index.recording.nodes.column("op")
    meanwhile = range(min(made_by[node] for node in state.nodes), state.op)
    file = index.statements[index.op_statement[state.op]].file
    if runs_passes(index, file, index.op_line(state.op), meanwhile):
        return "detach() the state."
    return "Put what runs it under torch.no_grad(), or detach() the state."


def carried_on(sources: Sources, tensor: int) -> list[Cause]:
    """Where an object takes what a model made of the state that it has, one line for an attribute; else nothing.

    The model's own line is right: in training its sequences end.
    """
    index, made_at = sources.index, sources.index.recording.tensors.column("op")
    if made_at[tensor] >= index.op_count:
        return []
    statement = index.op_statement[made_at[tensor]]
    held = {
        index.recording.text(name)
        for one, rows in sources.names_held.items()
        if made_at[one] < index.op_count and index.op_statement[made_at[one]] == statement
        for name, _, _ in rows
    }
    attributes = {last_part(name).partition("[")[0] for name in held if "." in name}
    found = [
        (attribute, (number, line, end))
        for number, file in enumerate(index.recording.files)
        for attribute, line, end in (carried_attributes(file.text) if file.is_user else ())
        if attribute in attributes
    ]
    files = {place[0] for _, place in found}
    if len(files) != 1 or len({attribute for attribute, _ in found}) < len(found):
        return []
    return [sources.cause_of_line("made", *place, "") for place in sorted({place for _, place in found})]


def _over_passes(sources: Sources) -> Iterator[tuple[Finding, int]]:
    """With the statement of each."""
    index = sources.index
    for tensor, op, nodes, crossed, others in graphs_carried(sources):
        in_list = states_in_list(sources, index.op_statement[op])
        if in_list is not None and in_list.is_begun_anew:
            yield (
                _kept_in_list(sources, CarriedGraph(tensor, op, nodes, crossed, others), in_list),
                index.op_statement[op],
            )
            continue
        name, each = sources.names.of(tensor), ""
        let_go = f"{name}.detach()"
        if others:
            name, each, let_go = sources.listed([name, *map(sources.names.of, others)]), ", each", "detach()"
        carries = "carry their graphs" if others else "carries its graph"
        handed = _handed(sources, op, tensor)
        by = f"line {handed[0].line} hands it what has a graph" if handed else ""
        uncut = passed_uncut(sources, _taken_in(index, index.op_statement[op]), index.op_count)
        finding = sources.finding(
            f"Line {index.op_place(op).line}: {name} {carries} from one backward pass to the next "
            f"({len(nodes):,} nodes, over {crossed:,} passes{each})",
            why=uncut.why if uncut is not None else by,
            op=op,
            tensors=[tensor, *others],
            causes=[*handed, *sources.cause("made", op), *(in_list.causes if in_list is not None else ())]
            if uncut is None
            else uncut.causes,
            evidence=[Evidence("nodes", nodes[0]), Evidence("nodes", nodes[-1])],
            advice=_letting_go(sources, op, tensor, let_go, bool(handed)) if uncut is None else uncut.advice,
        )
        yield finding, index.op_statement[op]


def _kept_in_list(sources: Sources, carried: CarriedGraph, kept: StatesInList) -> Finding:
    """Of a recursion that begins anew, which ends its graph by itself where nothing else keeps what it made."""
    index, put = sources.index, kept.kept_by.put
    line = index.line(kept.kept_by.file, put.line)
    return sources.finding(
        f"Line {line}: {put.holder} keeps {kept.results:,} results of line {index.op_line(carried.op)} with their "
        f"graphs, which lead on to earlier ones ({len(carried.nodes):,} nodes behind the last, over "
        f"{carried.crossed:,} passes)",
        why="no backward pass has walked them",
        op=carried.op,
        tensors=[carried.tensor, *carried.others],
        causes=[
            *kept.causes,
            *carried_on(sources, carried.tensor),
            *sources.cause("made", carried.op),
        ],
        evidence=[Evidence("nodes", carried.nodes[0]), Evidence("nodes", carried.nodes[-1])],
        advice="Put their detach() there.",
    )


def _taken_in(index: Index, statement: int) -> list[int]:
    """What a statement had made itself and took in again, the last few times."""
    made_at, count = index.recording.tensors.column("op"), index.op_count
    ops = [op for op in range(count) if index.op_statement[op] == statement]
    taken = dict.fromkeys(one for op in ops for one in index.uses.of(op))
    own = [one for one in taken if made_at[one] < count and index.op_statement[made_at[one]] == statement]
    return own[-AT_LEAST:]


def _letting_go(sources: Sources, op: int, tensor: int, let_go: str, is_handed: bool) -> str:
    if op != sources.index.recording.tensors.column("op")[tensor] and tensor not in sources.index.results.of(op):
        return "Write the detach() of what is written there."
    if is_handed:
        return "Hand over its detach(), or item() where only the number is wanted."
    return f"{let_go} lets go of it, or .item() where only the number is wanted."


class CarriedGraph(NamedTuple):
    """A graph that grows from pass to pass."""

    tensor: int
    """The last that it is behind."""
    op: int
    """The call that made or wrote it."""
    nodes: list[int]
    """Without leaves."""
    crossed: int
    """Backward passes that it reaches back over."""
    others: tuple[int, ...]
    """Further results of the same call that carry theirs as well, under other names: an average for each weight."""


def graphs_carried(sources: Sources) -> Iterator[CarriedGraph]:
    """Those that reach back over enough passes, one for each statement."""
    index, names, passes = sources.index, sources.names, sources.passes
    backward_ops = index.of_kind(OpKind.BACKWARD)
    if len(backward_ops) < AT_LEAST:
        return
    made_by, variable = index.recording.nodes.column("op"), index.recording.nodes.column("variable")
    made_at = index.recording.tensors.column("op")
    carried = _carried(index, names, passes)
    # What others take in again is a state where it leads back to the first of them; else they may be let go in time.
    enough = RUNS if carried else len(backward_ops)
    for tensor, first, op in carried or Takings(index, names).by_other_statements(AT_LEAST - 1, passes):
        found = []
        for one in _last_of_each_name(index, names, tensor, op):
            nodes = [node for node in passes.behind(index.node_after(one)) if variable[node] < 0]
            # Nodes of each iteration: what was made once, before all, is behind every result and carries nothing.
            crossed = len({bisect_left(backward_ops, made_by[node]) for node in nodes}) - 1
            last = op if one == tensor else made_at[one]
            all_passes = bisect_left(backward_ops, last) - bisect_left(backward_ops, first)
            if crossed >= enough or crossed >= max(AT_LEAST, all_passes):
                found.append(CarriedGraph(one, last, nodes, crossed, ()))
        if found:
            yield found[0]._replace(others=tuple(one.tensor for one in found[1:]))


def _last_of_each_name(index: Index, names: BestNames, tensor: int, op: int) -> list[int]:
    """What a call made last under each name, that of a result of it first.

    In a long loop names are looked at ever more rarely, and a loop over parameters makes one result for each.
    """
    made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
    if made_at[tensor] != op:
        return [tensor]
    spans, funcs = (index.recording.ops.column(name) for name in ("span", "func"))
    last = {names.of(tensor): tensor}
    for one in range(tensor + 1, len(made_at)):
        at = made_at[one]
        is_alike = at < index.op_count and spans[at] == spans[op] and funcs[at] == funcs[op]
        if is_alike and names.best[one] >= 0 and flags[one] & REQUIRES_GRAD and not flags[one] & EXTERNAL:
            last[names.of(one)] = one
    return list(last.values())


def _handed(sources: Sources, op: int, carried: int) -> list[Cause]:
    """The call that hands what was added to the function that adds it: a meter's ``update(loss)``.

    What a pass walks is no sum that is read only: of a state that is fed with inputs, those are right.
    """
    index = sources.index
    node = index.recording.tensors.column("node")[carried]
    if node >= 0 and sources.passes.first_walked_at[node] >= 0:
        return []
    made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
    values, todo = list[int](), [op]
    while todo:
        at = todo.pop()
        if index.func(at).rpartition(".")[2].strip("_") not in _SCALES:
            return []
        for one in index.uses.of(at):
            is_result = one != carried and flags[one] & REQUIRES_GRAD and not flags[one] & EXTERNAL
            if is_result and index.op_statement[made_at[one]] != index.op_statement[op]:
                values.append(one)
            elif is_result and made_at[one] < op:
                todo.append(made_at[one])
    return handed_by(sources, op, values)


def _carried(index: Index, names: BestNames, passes: Passes) -> list[tuple[int, int, int]]:
    """For each statement that took in what it had made or written itself in an earlier run: a named result of it.

    Returns:
        The last such result, the first run's op, and the op that made it or wrote it last.
    """
    tensors, statements = index.recording.tensors, index.op_statement
    made_at, flags, best = tensors.column("op"), tensors.column("flags"), names.best
    takings = Takings(index, names)
    found: dict[int, list[tuple[int, int]]] = {}
    averaged: dict[int, list[tuple[int, int]]] = {}
    for op, taken in zip(index.uses.keys, index.uses.values, strict=True):
        if statements[op] == NOWHERE or best[taken] < 0 or made_at[taken] >= op:
            continue
        requires_grad = flags[taken] & REQUIRES_GRAD
        is_own = requires_grad and statements[made_at[taken]] == statements[op]
        is_sum = index.method(op) in _SUMS and taken in index.results.of(op)
        if is_own and not is_sum and not takings.is_over_a_pass(op, taken):
            continue  # what it made itself since the last pass leads no further than whatever went into it
        if is_own or is_sum:
            found.setdefault(statements[op], []).append((taken, op))
        elif requires_grad and index.method(op) in _MEANS:
            # ``old = decay * self.mean``, then ``self.mean = old + ...``: by way of one other statement.
            own = (one for one in index.uses.of(made_at[taken]) if statements[made_at[one]] == statements[op])
            earlier = next((one for one in own if made_at[one] < op and flags[one] & REQUIRES_GRAD), NONE)
            if earlier >= 0 and best[earlier] >= 0 and not flags[earlier] & EXTERNAL:
                averaged.setdefault(statements[op], []).append((earlier, op))
    walked = passes.first_walked_at
    for statement, several in averaged.items():
        if all(walked[tensors.column("node")[tensor]] < 0 for tensor, _ in several):  # what is trained through is meant
            found.setdefault(statement, several)
    carried = []
    for taken_in in found.values():
        # The same statement may add up what has no graph too, for another object: a meter of the validation.
        several = [one for one in taken_in if index.node_after(one[0]) >= 0]
        if len(several) >= AT_LEAST - 1:
            tensor, last = several[-1]
            is_written = tensor in index.results.of(last)
            carried.append((tensor, several[0][1], last if is_written else made_at[tensor]))
    known = {tensor for tensor, *_ in carried}
    for (_, tensor), ops in tracked_writes(index).items():
        if tensor not in known and best[tensor] >= 0 and len(ops) >= AT_LEAST:
            carried.append((tensor, ops[0], ops[-1]))
    return carried


DIAGNOSIS = Diagnosis(
    code="graph-carried-along",
    title="a graph that grows from one backward pass to the next",
    severity="warning",
    explanation=Explanation(
        meaning="""A statement of a loop takes in what it made itself in the iteration before, with its graph: the
            graph behind the name reaches back over many backward passes and grows with each. Or the state of a
            stream does, that no pass ever walks, while numbers are read out of its graph value by value. Or a
            recursion (a Neumann series, a power iteration) is fed with the gradient that autograd.grad gave with
            create_graph=True. Or a list keeps the states of a recursion (a replay buffer): where that begins anew now
            and then, the list alone holds the graphs.""",
        reason="""A result that requires grad keeps its grad_fn, and that keeps the whole graph behind it. total
            += loss or a hidden state that is handed on make each iteration's graph part of the next.""",
        remedy="""Keep the number only (total += loss.item(), or loss.detach() on a GPU, which does not wait), and
            detach() a hidden state where gradients are not to flow into earlier iterations. The second call of
            autograd.grad in a Hessian-vector product needs no create_graph.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
total = 0
for step in range(20):
    loss = (w * step).sum()
    loss.backward()
    total = total + loss
""",
        instead_of="total = total + loss",
        silent="total = total + loss.item()",
    ),
    find=_find,
)

"""``Trying to backward through the graph a second time``: by which way a pass came into a graph that was used up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.cached_weights import OF_CACHED, cached_at
from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.errors.captured_by_checkpoint import captured_by_checkpoint
from gradscope.analysis.diagnoses.errors.detach_never_ran import detach_never_ran
from gradscope.analysis.diagnoses.errors.detached_too_seldom import detached_too_seldom
from gradscope.analysis.diagnoses.errors.left_by_hooks import left_by_hook
from gradscope.analysis.diagnoses.errors.ways_into_old_graphs import ways_kept
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.passed_uncut import PassedUncut, passed_uncut
from gradscope.analysis.diagnoses.rerun_causes import OF_LEFT, left_behind, owned
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.wholes_of_parts import node_of_whole
from gradscope.analysis.facts.modes.graphs_in_training import left_without_graph
from gradscope.analysis.facts.modules.module_words import module_word
from gradscope.analysis.facts.program.results_dropped import results_dropped
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.report_model import Cause, CauseRole, Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.analysis.wording import listed
from gradscope.frames.names.list_defaults import ListDefault, list_default
from gradscope.frames.names.partly_emptied import PartlyEmptied, partly_emptied
from gradscope.frames.names.put_statements import last_part
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, PARAMETER

_MESSAGE = "backward through the graph a second time"


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    errors = {error.op for error in index.recording.errors if _MESSAGE in index.recording.text(error.message)}
    last_of_line = {index.op_statement[op]: op for op in sorted(errors & set(sources.gradients.roots))}
    for op in last_of_line.values():
        for row in (row for row in index.recording.backwards if row.op == op and row.node >= 0):
            if entries := _entries(sources, op, row.node):
                yield _finding(sources, op, row.root, entries)
            elif (captured := captured_by_checkpoint(sources, op)) is not None:
                yield captured


def _entries(sources: Sources, op: int, root: int) -> dict[int, int]:
    """The nodes of an earlier graph that a pass comes to first, each with the pass that used up what is behind it."""
    index, passes = sources.index, sources.passes
    starts, following, variable = passes.edge_starts, index.edges.values, index.recording.nodes.column("variable")
    reached: dict[int, list[int]] = {}
    came_from, stack = {root: NONE}, [root]
    while stack:
        node = stack.pop()
        if 0 <= passes.used_up_at[node] < op:
            if variable[node] < 0:
                reached.setdefault(passes.used_up_at[node], []).append(node)
            continue
        for after in following[starts[node] : starts[node + 1]]:
            if after >= 0 and after not in came_from:
                came_from[after] = node
                stack.append(after)
    found: dict[int, int] = {}
    for used_up, nodes in reached.items():
        kept = _kept_before(sources, set(nodes), root, used_up, op)
        for node in nodes:
            whole = node_of_whole(index, passes, node, used_up, op)
            for entry in [whole] if whole >= 0 else kept.get(node) or [_seen_before(sources, node, came_from)]:
                found.setdefault(entry, used_up)
    return found


def _kept_before(sources: Sources, reached: set[int], root: int, used_up: int, op: int) -> dict[int, list[int]]:
    """For used-up nodes that are only behind it: what the failed pass took of the earlier graph, as a buffer holds it.

    None for what the pass took itself, nor for what was not made anew since the earlier pass: that may be what is used
    again.
    """
    index, made_at = sources.index, sources.index.recording.nodes.column("op")
    anew = set(index.op_statement[used_up + 1 : op])
    taken = _first_of_before(sources, root, used_up)
    found: dict[int, list[int]] = {}
    for node in sorted(one for one in taken if index.node_tensor[one] >= 0 and one not in reached):
        for entry in _used_up_behind(sources, node, reached - taken):
            if index.op_statement[made_at[entry]] in anew:
                found.setdefault(entry, []).append(node)
    return found


def _first_of_before(sources: Sources, root: int, used_up: int) -> set[int]:
    """The nodes made before a pass that a root comes to first, by way of those made after it only."""
    starts, following = sources.passes.edge_starts, sources.index.edges.values
    made_at = sources.index.recording.nodes.column("op")
    stack, seen, taken = [root], {root}, set[int]()
    while stack:
        node = stack.pop()
        if made_at[node] < used_up:
            taken.add(node)
            continue
        for after in following[starts[node] : starts[node + 1]]:
            if after >= 0 and after not in seen:
                seen.add(after)
                stack.append(after)
    return taken


def _used_up_behind(sources: Sources, start: int, reached: set[int]) -> list[int]:
    """Those of some used-up nodes that are behind a node, by way of what was not used up."""
    starts, following, used_up_at = sources.passes.edge_starts, sources.index.edges.values, sources.passes.used_up_at
    stack, seen, found = [start], {start}, list[int]()
    while stack:
        node = stack.pop()
        if node in reached:
            found.append(node)
        elif used_up_at[node] < 0:
            for after in following[starts[node] : starts[node + 1]]:
                if after >= 0 and after not in seen:
                    seen.add(after)
                    stack.append(after)
    return found


def _seen_before(sources: Sources, entry: int, came_from: dict[int, int]) -> int:
    """The used-up node itself, or where its tensor was not seen, the nearest before it that was there by then.

    The earlier pass need not have come through that: of the state that an LSTM gives, no loss may have been computed.
    """
    made_at, used_up = sources.index.recording.nodes.column("op"), sources.passes.used_up_at[entry]
    node = entry
    while node != NONE and sources.index.node_tensor[node] < 0:
        node = came_from[node]
    return node if node != NONE and 0 <= made_at[node] < used_up else entry


class _LedBack(NamedTuple):
    """What a program does that leads into the earlier graph, where it is more than to use what was kept."""

    why: str
    causes: list[Cause]
    advice: str


def _known(sources: Sources, entries: list[int], used_up: list[int], op: int) -> _LedBack | None:
    """What led an op into the graphs that earlier passes used up, by way of some nodes; None for none of these."""
    index = sources.index
    dropped = _dropped(sources, entries)
    if dropped >= 0:
        why = f"line {index.op_line(dropped)} ({index.call_name(dropped)}) gives a new tensor, which nothing takes"
        return _LedBack(why, sources.cause("used", dropped), "Take what it gives: x = x.detach().")
    left = [left_without_graph(index, sources.passes, sources.events, one) for one in used_up]
    if (call := left[0]) is not None and None not in left:
        module = module_word(index, sources.names, call)
        why = f"eval() at line {index.span_line(call.event.span)} left {module} in the other"
        return _LedBack(
            f"that keeps the graph in training mode only, and {why}",
            sources.cause_of_span("set", call.event.span),
            "Call train() before training goes on.",
        )
    tensors = [index.node_tensor[node] for node in entries]
    if cached := cached_at(sources, tensors, op):
        why = f"parametrize.cached() (line {cached[0].line}) keeps the weights that it computed first, with their graph"
        return _LedBack(f"{why}, as long as it is open", cached, OF_CACHED)
    if added := left_behind(sources, tensors):
        state, causes = added
        why = f"that pass ran the function again that line {causes[-1].line} checkpoints, which added to {owned(state)}"
        return _LedBack(
            f"{why} (line {causes[0].line}) a second time, and what it added was still there", causes, OF_LEFT
        )
    return None


def _of_data(sources: Sources, entries: list[int], root: int) -> _LedBack | None:
    """The tensors by which data track, of no module: nothing ever changes them, as it does others of the loss."""
    index, node_of = sources.index, sources.index.recording.tensors.column("node")
    behind = sources.passes.leaves_behind
    leaves = {leaf for node in entries for leaf in behind(node)}
    others = behind(node_of[root]) - leaves
    flags = index.recording.tensors.column("flags")
    changed = {tensor for _, tensor, *_ in writes_by_program(index)} | sources.events.in_optimizers.keys()
    if not leaves or not changed.isdisjoint(leaves) or changed.isdisjoint(others):
        return None
    if any(flags[leaf] & (PARAMETER | EXTERNAL) for leaf in leaves):
        return None
    made = sorted(leaves, key=index.made_by)
    names = listed([sources.names.of(index.node_tensor[node]) for node in entries if index.node_tensor[node] >= 0])
    wants = "require grad though nothing trains them" if len(made) > 1 else "requires grad though nothing trains it"
    return _LedBack(
        f"{names} was made from {listed([sources.names.of(leaf) for leaf in made])}, which {wants}",
        [cause for leaf in made for cause in sources.cause("made", index.made_by(leaf))],
        "Leave requires_grad out there, or make data under torch.no_grad().",
    )


def _file_of(sources: Sources, causes: list[Cause]) -> tuple[int, str]:
    """The number and the text of the file in which the last of some causes is; NONE for none."""
    files = enumerate(sources.index.recording.files)
    found = ((number, file.text) for number, file in files if causes and file.name == causes[-1].file)
    return next(found, (NONE, ""))


def _left_in_default(sources: Sources, kept: list[tuple[str, list[Cause]]]) -> _LedBack | None:
    """The list, made once for all calls, in which all that leads into the old graph was found; else None."""
    found = set[tuple[int, ListDefault]]()
    for name, causes in kept:
        number, text = _file_of(sources, causes)
        default = list_default(text, int(causes[-1].line), name.partition("[")[0]) if number >= 0 else None
        if default is None:
            return None
        found.add((number, default))
    if len(found) != 1:
        return None
    ((number, one),) = found
    cause = sources.cause_of_line("made", number, one.line, one.end_line, "")
    return _LedBack(
        f"{one.name} has what earlier calls of {one.function} put there: its default (line {cause.line}) is made once "
        "for all calls",
        [cause],
        "Let the default be None, and make it anew in the body of the function.",
    )


def _left_in_list(sources: Sources, kept: list[tuple[str, list[Cause]]]) -> _LedBack | None:
    """The list, emptied by nothing that empties others, in which all that leads back was found; else None."""
    found = dict[tuple[int, str], PartlyEmptied]()
    for name, causes in kept:
        number, text = _file_of(sources, causes)
        holder = name.partition("[")[0]
        one = partly_emptied(text, int(causes[-1].line), last_part(holder)) if number >= 0 and holder != name else None
        if one is None:
            return None
        found[number, holder] = one
    if len(found) != 1:
        return None
    (((number, holder), one),) = found.items()
    cause = sources.cause_of_line("used", number, one.line, one.end_line, "")
    return _LedBack(
        f"line {cause.line} empties {listed(one.others)} only, and {holder} still has what earlier runs put there",
        [cause],
        f"Empty {last_part(holder)} there too.",
    )


def _never_cut(sources: Sources, entries: list[int], op: int) -> _LedBack | None:
    """The condition, never true, under which alone what leads back is detached."""
    one = detach_never_ran(sources, [at for node in entries if (at := sources.index.node_tensor[node]) >= 0], op)
    if one is None:
        return None
    cut, test = one.causes
    where = "" if test.line == cut.line else f" (line {test.line})"
    return _LedBack(
        f"line {cut.line} detaches {one.name} where {one.test}{where}, and never ran",
        one.causes,
        "Detach it in each round, and each tensor of it where it is a tuple.",
    )


def _left_by_hook(sources: Sources, entries: list[int], used_up: int, op: int) -> _LedBack | None:
    tensors = [sources.index.node_tensor[node] for node in entries]
    left = left_by_hook(sources, tensors, used_up, op)
    if left is None:
        return None
    hook, registered = left
    line = sources.index.span_line(registered.span)
    return _LedBack(
        f"{hook.name}, which line {line} registered before that pass, is still there beside the new one, and runs with "
        "what it had then",
        sources.cause_of_event("made", registered),
        "Keep the handles, and remove() each of them when what it was registered for is done.",
    )


def _finding(sources: Sources, op: int, root: int, found: dict[int, int]) -> Finding:
    index, line = sources.index, sources.index.op_line(op)
    entries, used_up = list(found), set(found.values())
    earlier = [*dict.fromkeys(index.op_line(one) for one in used_up)]
    passes = "its own earlier run" if earlier == [line] else f"the backward of line {numbers(earlier)}"
    is_itself = {index.node_tensor[node] for node in entries} <= {root, -1}
    kept = [] if is_itself and earlier != [line] else ways_kept(sources, entries, min(used_up), op)
    known: _LedBack | PassedUncut | None = (
        _known(sources, entries, sorted(used_up), op)
        or _left_in_default(sources, kept)
        or _left_in_list(sources, kept)
        or _of_data(sources, entries, root)
        or _left_by_hook(sources, entries, min(used_up), op)
        or _never_cut(sources, entries, op)
    )
    tensors, through = [one for node in entries if (one := index.node_tensor[node]) >= 0], ""
    if known is None:
        known = passed_uncut(sources, tensors, op)
        names = list(dict.fromkeys(sources.names.of(index.node_tensor[node]) for node in entries))
        through = f" through {listed(names)}"
    if known is not None:
        return sources.finding(
            f"Line {line}: backward failed, since {sources.names.of(root)} leads{through} into a graph that {passes} "
            "had used up and freed",
            why=known.why,
            op=op,
            tensors=[root],
            causes=known.causes,
            evidence=[Evidence("nodes", node) for node in entries] + [Evidence("ops", one) for one in sorted(used_up)],
            advice=known.advice,
        )
    if (seldom := detached_too_seldom(sources, tensors, op)) is not None:
        return sources.finding(
            f"Line {seldom.cause.line} detaches {seldom.name} before the loop of line "
            f"{index.line(index.statements[index.op_statement[op]].file, seldom.loop)}, not in each of its rounds",
            why=f"from its second round on {sources.names.of(root)} leads into the graph of the round before, which "
            "backward had used up and freed",
            op=op,
            tensors=[root],
            causes=[seldom.cause, *(cause for _, causes in kept for cause in causes)],
            evidence=[Evidence("nodes", node) for node in entries] + [Evidence("ops", one) for one in sorted(used_up)],
            advice=f"Detach {seldom.name} at the beginning of each round.",
        )
    ways = dict.fromkeys(f"{name} ({_lines_of(causes)})" for name, causes in kept if causes)
    way = f" through {listed(list(ways))}" if ways and not is_itself else ""
    from_line = f" (line {kept[0][1][0].line})" if ways and is_itself else ""
    return sources.finding(
        f"Line {line}: backward failed, since {sources.names.of(root)}{from_line} leads{way} into a graph that "
        f"{passes} had used up and freed",
        op=op,
        tensors=[root],
        causes=[cause for _, causes in kept for cause in causes],
        evidence=[Evidence("nodes", node) for node in entries] + [Evidence("ops", one) for one in sorted(used_up)],
        advice=_advice(sources, entries, [cause.role for _, causes in kept for cause in causes], min(used_up), op),
    )


def _lines_of(causes: list[Cause]) -> str:
    """``made at line 3``; of what was handed to a function that keeps it, both lines."""
    first, *others = causes
    if first.role == "used" and others and others[0].role != "used":
        return f"handed over at line {first.line}, {others[0].role} at line {others[0].line}"
    return f"{'written' if first.role == 'write' else first.role} at line {first.line}"


def _dropped(sources: Sources, entries: list[int]) -> int:
    """The last ``detach`` of what leads into the old graph whose result nothing took; NONE where there is none."""
    index = sources.index
    lines = {
        index.op_statement[one.op]: one.op for one in results_dropped(index) if index.method(one.op) == "Tensor.detach"
    }
    taken = [index.node_tensor[node] for node in entries]
    users = {index.op_statement[op] for tensor in taken if tensor >= 0 for op in index.users.of(tensor)}
    return max((op for statement, op in lines.items() if statement in users), default=NONE)


def _advice(sources: Sources, entries: list[int], roles: list[CauseRole], used_up: int, op: int) -> str:
    index = sources.index
    anew = "compute it anew for each backward"
    detach = "cut it off with detach()"
    carried = (
        "used" in roles
        or "write" in roles
        or any(
            sources.is_stored_again(index.node_tensor[node]) or sources.passes.used_up_at[node] < 0 for node in entries
        )
    )
    first, second = (detach, anew) if carried else (anew, f"{detach} where no gradient is to flow further back")
    choices = [first, second, "add up the losses for one backward"]
    if not any(used_up < at < op for at, *_ in writes_by_program(index)):
        choices.append("keep the graph with retain_graph=True in the earlier pass")
    return f"Either {', or '.join(choices)}."


DIAGNOSIS = Diagnosis(
    code="graph-used-twice",
    title="a second backward through a graph that was freed",
    severity="problem",
    explanation=Explanation(
        meaning="""Backward raised "Trying to backward through the graph a second time": the loss leads, by the
            named tensors, into a part of the graph that an earlier pass had walked and freed.""",
        reason="""Backward frees what the nodes saved as it goes, so that memory is given back early. A value that
            is computed once and used in several losses, or a hidden state carried from one iteration to the next,
            leads a later pass into the old graph. A checkpoint with use_reentrant=True runs a backward of its own for
            its function: that ends at the arguments, and goes on through the graph of whatever else the function uses
            (a tensor of the function around, an attribute), so that the next one finds it freed.""",
        remedy="""Compute the value anew in each iteration, or cut it off with detach() where no gradient is to
            flow further back (a hidden state), or add up the losses and call backward once. retain_graph=True
            keeps the graph, but only works as long as nothing writes into what was saved, an optimizer's step
            included.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
h = torch.zeros(3)
for step in range(2):
    h = torch.tanh(h + w)
    h.sum().backward()
""",
        instead_of="h = torch.tanh(h + w)",
        silent="h = torch.tanh(h.detach() + w)",
    ),
    find=_find,
)

"""``modified by an inplace operation``: by which line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.called_too_early import called_too_early, when_called
from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.errors.inplace_in_backwards import found_in_backwards
from gradscope.analysis.diagnoses.errors.inplace_in_hooks import found_in_hooks
from gradscope.analysis.diagnoses.errors.inplace_of_checkpointed import found_of_checkpointed
from gradscope.analysis.diagnoses.errors.ways_into_old_graphs import stored_as_part
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.inplace_writes import JudgedWrite
from gradscope.analysis.facts.writes import is_step
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.wording import listed
from gradscope.recording import NONE


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the tensors of one line."""
    index, writes = sources.index, sources.writes
    alike: dict[tuple[int, str, int, int], list[JudgedWrite]] = {}
    for write in writes.judged:
        if write.effect.effect == "raised":
            lines = index.op_line(writes.saved_at(write)), index.op_line(write.effect.backward_op)
            alike.setdefault((index.op_statement[write.op], index.func(write.op), *lines), []).append(write)
    for (_, func, saved_line, backward_line), same in alike.items():
        first = same[0]
        kinds = listed([writes.saved_as(write) for write in same])
        names = listed([sources.names.of(write.tensor) for write in same])
        is_named = all(sources.names.is_named(write.tensor) for write in same)
        kept = _saved_under_another_name(sources, first) if is_named and len(same) == 1 else NONE
        what = f"into {names}, which" if is_named else f"through {names} into memory that"
        if kept >= 0:
            what = f"into {names}, and so into {sources.names.of(kept)}, which"
        carried = _carried(sources, first)
        through = listed(list(dict.fromkeys(f"{name} (line {causes[0].line})" for name, causes in carried)))
        stale = [] if carried else _made_before_step(sources, first)
        early = called_too_early(sources, first) if not carried and not stale else None
        why = f"it leads through {through} into the graph of its own earlier run" if carried else _said(sources, stale)
        why = why or when_called(early)
        advice = "Cut it off with detach() before the next run." if carried else ""
        yield sources.finding(
            f"Line {index.op_place(first.op).line}: {func} wrote {what} line {saved_line} had saved for "
            f"backward ({kinds}); therefore backward at line {backward_line} failed",
            why=why,
            advice=advice or ("Compute it anew after the step, or step after all backward passes." if stale else ""),
            op=first.op,
            tensors=[*(write.tensor for write in same), *([kept] if kept >= 0 else [])],
            causes=[
                *(cause for _, causes in carried for cause in causes),
                *(cause for one in stale for cause in one.causes),
                *([early[1]] if early is not None else []),
                *sources.cause("write", first.op),
                *sources.cause("saved", writes.saved_at(first)),
            ],
            evidence=[Evidence("saved", write.effect.saved_row) for write in same]
            + [Evidence("ops", first.effect.backward_op)],
        )
    explained = {same[0].effect.backward_op for same in alike.values()}
    in_hooks = list(found_in_hooks(sources, explained))
    yield from in_hooks
    if in_hooks:
        return
    of_checkpointed = list(found_of_checkpointed(sources, explained))
    yield from of_checkpointed
    if not of_checkpointed:
        yield from found_in_backwards(sources, explained)


def _saved_under_another_name(sources: Sources, write: JudgedWrite) -> int:
    """What was saved, where the program has another name for it than for what was written: the base of a view."""
    saved = sources.index.recording.saved[write.effect.saved_row]
    is_result = sources.index.recording.text(saved.attr) == "result"
    kept = saved.tensor if saved.tensor >= 0 else sources.index.node_tensor[saved.node] if is_result else NONE
    if kept in (NONE, write.tensor) or not sources.names.is_named(kept):
        return NONE
    return NONE if sources.names.of(kept) == sources.names.of(write.tensor) else kept


def _carried(sources: Sources, write: JudgedWrite) -> list[tuple[str, list[Cause]]]:
    """What a loop carries from run to run, where a step wrote what an earlier run of the same pass had come through."""
    index, passes, failed = sources.index, sources.passes, write.effect.backward_op
    roots = index.root_nodes(failed)
    made_at = index.recording.nodes.column("op")
    if not is_step(index, write.op) or any(made_at[root] < write.op for root in roots):
        return []
    walked = {
        passes.first_walked_at[node] for root in roots for node in passes.behind(root) if made_at[node] < write.op
    }
    earlier = [op for op in walked if 0 <= op < write.op]
    if not earlier or any(index.op_statement[op] != index.op_statement[failed] for op in earlier):
        return []
    tensors = [index.node_tensor[node] for node in _made_before(sources, roots, write.op)]
    found = [(tensor, _stored_in_loop(sources, tensor, write.op)) for tensor in tensors if tensor >= 0]
    return [(sources.names.of(tensor), causes) for tensor, causes in found if causes]


class _Stale(NamedTuple):
    """A value from before a step through which a pass came to what the step wrote."""

    tensor: int
    causes: list[Cause]
    """Where it was stored, then where it was used after the step."""


def _made_before_step(sources: Sources, write: JudgedWrite) -> list[_Stale]:
    """The values from before an optimizer's step by which a pass came back to what the step wrote, where it is known.

    What a function computed is stored where it is called: that line is to run again after the step, not the one inside.
    """
    index, failed = sources.index, write.effect.backward_op
    if not is_step(index, write.op):
        return []
    roots = index.root_nodes(failed)
    saved = index.recording.saved.column("node")[write.effect.saved_row]
    found = []
    for node in _made_before(sources, roots, write.op):
        tensor = index.node_tensor[node]
        if tensor >= 0 and (node == saved or saved in sources.passes.behind(node)):
            stores = [cause._replace(role="made") for cause in sources.stored(tensor, write.op)]
            later = next((op for op in index.users.of(tensor) if write.op < op < failed), NONE)
            if stores:
                found.append(_Stale(tensor, [*stores, *sources.cause("used", later)]))
    return found


def _said(sources: Sources, stale: list[_Stale]) -> str:
    """How a pass came to what was written before it."""
    if not stale:
        return ""
    ways = [
        f"{sources.names.of(one.tensor)} (line {one.causes[0].line})"
        + (f", used at line {one.causes[-1].line}" if len(one.causes) > 1 else "")
        for one in stale
    ]
    return f"it leads through {listed(list(dict.fromkeys(ways)))}, which was computed before that step"


def _made_before(sources: Sources, roots: list[int], op: int) -> list[int]:
    """The nodes from before an op to which a pass comes first, leaves' apart."""
    starts, following = sources.passes.edge_starts, sources.index.edges.values
    made_at, variable = (sources.index.recording.nodes.column(name) for name in ("op", "variable"))
    stack, seen, found = list(roots), set(roots), list[int]()
    while stack:
        node = stack.pop()
        if made_at[node] < op:
            found += [node] * (variable[node] < 0)
            continue
        for after in following[starts[node] : starts[node + 1]]:
            if after >= 0 and after not in seen:
                seen.add(after)
                stack.append(after)
    return found


def _stored_in_loop(sources: Sources, tensor: int, before: int) -> list[Cause]:
    """The statement that stored a tensor before an op and stored others in its place since, or is to."""
    if sources.is_stored_again(tensor):
        return sources.stored(tensor, before)
    return stored_as_part(sources, tensor, before)


DIAGNOSIS = Diagnosis(
    code="inplace-error",
    title="a saved tensor was written in place before backward needed it",
    severity="problem",
    explanation=Explanation(
        meaning="""Backward raised "one of the variables needed for gradient computation has been modified by an
            inplace operation". The sentence names the line that wrote, and the line whose operation had saved the
            tensor. The write may stand in the backward of a custom Function: what ctx.saved_tensors gives are the saved
            tensors themselves.""",
        reason="""Many operations keep their inputs or their result for backward. Each tensor has a version
            counter that in-place operations raise; a saved tensor whose counter has changed since cannot be used,
            and autograd raises instead of computing a wrong gradient.""",
        remedy="""Write out of place at the named line (y = y + 1 for y += 1, y * mask for y[...] = 0), or write
            into a clone(), or write after backward. If an optimizer step wrote, compute the loss anew after the
            step.""",
    ),
    example=Example(
        shows="""\
import torch

x = torch.ones(3, requires_grad=True)
y = x.sigmoid()
loss = y.sum()
y.detach().zero_()
loss.backward()
""",
        instead_of="y.detach().zero_()",
        silent="y.detach().clone().zero_()",
    ),
    find=_find,
)

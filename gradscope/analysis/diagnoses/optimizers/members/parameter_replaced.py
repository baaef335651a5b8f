"""A parameter whose name was given to another tensor after the optimizer was made: the optimizer steps the old one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.assigned_loads import assigning_load
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, LEAF, PARAMETER
from gradscope.recording.rows import BindingKind, EventKind, OpKind

PASSES = 2
"""Passes that gave a gradient to what has taken a parameter's name from which on it is reported."""


class _Store(NamedTuple):
    """A statement that gave a name to a tensor."""

    name: str
    file: int
    function: int
    """Where the name belongs to."""
    span: int
    op: int


def _find(sources: Sources) -> Iterator[Finding]:
    found = list(_find_replaced(sources))
    yield from found or _find_put_aside(sources)


def _find_replaced(sources: Sources) -> Iterator[Finding]:
    """One finding for each parameter that an optimizer holds and that a statement put others in the place of."""
    index, lives = sources.index, sources.lives
    held = sources.events.in_optimizers
    flags = index.recording.tensors.column("flags")
    leaves = [one for one in lives.passes if one not in held and flags[one] & LEAF and _was_made(flags[one])]
    stored = [
        (leaf, store)
        for leaf in leaves
        for store in _names(sources, leaf, BindingKind.STORE)
        if not sources.is_loop_variable(store.name, store.span)  # (it stands for each item in turn)
    ]
    if not stored:
        return
    for optimizer in seen_optimizers(index, sources.events):
        for tensor in sorted(optimizer.tensors):
            own = {(one.name, one.file, one.function) for one in _names(sources, tensor)}
            others = [
                (leaf, store)
                for leaf, store in stored
                if (store.name, store.file, store.function) in own and _is_like(sources, leaf, tensor)
            ]
            others.sort(key=lambda one: one[1].op)
            is_next = bool(others) and _takes_its_place(sources, others[0], tensor)
            if is_next and _is_stepped_in_vain(sources, optimizer, tensor, others):
                yield _finding(sources, optimizer, tensor, others)


def _find_put_aside(sources: Sources) -> Iterator[Finding]:
    """Those whose name stands for what was computed from them, and which nothing uses any more."""
    index, lives, said = sources.index, sources.lives, set[int]()
    held = sources.events.in_optimizers
    names: dict[tuple[str, int, int], list[tuple[int, int]]] = {}
    for tensor in sources.bindings_of:
        for one in _names(sources, tensor):
            names.setdefault((one.name, one.file, one.function), []).append((one.op, tensor))
    for optimizer in seen_optimizers(index, sources.events):
        for tensor in sorted(optimizer.tensors):
            passes = lives.passes.get(tensor, [])
            last = _last_use(index, tensor) if passes else index.op_count
            if not passes or len(_rounds_after(sources, optimizer, last)) < PASSES:
                continue
            for name in sorted({(one.name, one.file, one.function) for one in _names(sources, tensor)}):
                later = sorted((op, other) for op, other in names[name] if op > last and other != tensor)
                made = _made_of(sources, later[0][1], tensor, later[0][0]) if later else NONE
                others = {other for _, other in later}
                if (
                    made >= optimizer.made.op
                    and held.keys().isdisjoint(others)
                    and not _are_trained(sources, others)
                    and not _are_frozen(index, others)
                    and index.op_statement[made] not in said
                ):
                    said.add(index.op_statement[made])
                    yield _put_aside(sources, optimizer, tensor, name[0], made, last)
                    break


def _are_trained(sources: Sources, tensors: Collection[int]) -> bool:
    """Whether these are parameters of their own to which several passes gave gradients: see never-stepped."""
    flags, passes = sources.index.recording.tensors.column("flags"), sources.lives.passes
    return all(flags[one] & PARAMETER and len(passes.get(one, ())) >= PASSES for one in tensors)


def _are_frozen(index: Index, tensors: Collection[int]) -> bool:
    """Whether these are parameters that are not to be trained: those of a copy that was frozen."""
    flags = index.recording.tensors.column("flags")
    return all(flags[one] & PARAMETER and not index.requires_grad(one, index.op_count) for one in tensors)


def _last_use(index: Index, tensor: int) -> int:
    """The last call that took a parameter, but for those of optimizers, and for its .grad read or set."""
    kinds = index.recording.ops.column("kind")
    used = (
        op
        for op in index.users.of(tensor)
        if kinds[op] not in (OpKind.STEP, OpKind.READ_GRAD)
        and not index.func(op).startswith(("optim.", "Tensor.grad."))  # (another gradient, or none)
    )
    return max(used, default=NONE)


def _rounds_after(sources: Sources, optimizer: Optimizer, last: int) -> list[int]:
    """The steps of an optimizer after an op, with a pass before each."""
    index, kinds = sources.index, sources.index.recording.ops.column("kind")
    found, is_passed = [], False
    for op in range(last + 1, index.op_count):
        is_passed |= kinds[op] == OpKind.BACKWARD
        if is_passed and kinds[op] == OpKind.STEP and index.func(op) == f"{optimizer.name}.step":
            found.append(op)
            is_passed = False
    return found


def _made_of(sources: Sources, other: int, tensor: int, seen_at: int) -> int:
    """The call of the user's that made what a tensor holds, where that comes from another one; or NONE."""
    index = sources.index
    if not _is_like(sources, other, tensor) or tensor not in sources.flow.origins(other, seen_at):
        return NONE
    if assigning_load(index, other, 0) >= 0:
        return NONE  # another module's: see never-stepped
    made, storage = index.made_by(other), index.recording.tensors.column("storage")[other]
    if made < 0 and storage >= 0:
        made = index.recording.storages.column("op")[storage]
    return made if 0 <= made < index.op_count and index.op_line(made) else NONE


def _put_aside(sources: Sources, optimizer: Optimizer, tensor: int, name: str, made: int, last: int) -> Finding:
    index, steps = sources.index, _rounds_after(sources, optimizer, last)
    return sources.finding(
        f"Line {index.op_line(made)}: {name} is another tensor from here on, computed from the one that "
        f"{optimizer.name} was given, and nothing uses that one any more ({index.times(steps):,} steps)",
        why="the optimizer goes on with a parameter that no pass comes to",
        op=steps[-1],
        tensors=[tensor],
        causes=sources.cause("made", made),
        evidence=[Evidence("events", optimizer.made.row), Evidence("ops", made)],
        advice="Write the new values into the parameter, under torch.no_grad(): copy_(), clamp_().",
    )


def _was_made(flags: int) -> bool:
    """Whether the run made a tensor: a parameter is first seen when it is used."""
    return bool(flags & PARAMETER) or not flags & EXTERNAL


def _takes_its_place(sources: Sources, other: tuple[int, _Store], tensor: int) -> bool:
    """Whether a leaf is that which a name stands for next: the part of an object may be another object's."""
    leaf, store = other
    return store.name.isidentifier() or tensor in sources.flow.origins(leaf, sources.lives.passes[leaf][0])


def _names(sources: Sources, tensor: int, kind: BindingKind | None = None) -> list[_Store]:
    """The names under which a tensor was seen, or stored."""
    index, bindings = sources.index, sources.index.recording.bindings
    found = []
    for row in sources.bindings_of.get(tensor, ()):
        one = bindings[row]
        name = index.recording.text(one.name)
        if one.span >= 0 and kind in (None, one.kind):
            span = index.recording.spans[one.span]
            found.append(_Store(name, span.file, span.function, one.span, one.op))
    return found


def _is_like(sources: Sources, leaf: int, tensor: int) -> bool:
    layouts = sources.index.recording.layouts
    one, other = (layouts[sources.index.recording.tensors.column("layout")[each]] for each in (leaf, tensor))
    return one.shape == other.shape


def _is_stepped_in_vain(sources: Sources, optimizer: Optimizer, tensor: int, others: list[tuple[int, _Store]]) -> bool:
    """Whether the optimizer went on to step while others got the gradients, and the parameter none any more."""
    index, lives = sources.index, sources.lives
    since = min(store.op for _, store in others)
    passes = sorted({op for leaf, _ in others for op in lives.passes[leaf] if op > since})
    if len(passes) < PASSES or since < optimizer.made.op or lives.passes.get(tensor, [NONE])[-1] > passes[0]:
        return False
    func = f"{optimizer.name}.step"
    steps = [op for op in index.of_kind(OpKind.STEP) if op >= passes[0] and index.func(op) == func]
    steps += [one.op for one in sources.events.of(EventKind.STEP) if one.subject == optimizer.made.subject]
    return sum(step > passes[0] for step in steps) >= PASSES


def _finding(sources: Sources, optimizer: Optimizer, tensor: int, others: list[tuple[int, _Store]]) -> Finding:
    index, (leaf, store) = sources.index, others[-1]
    passes = sorted({op for other, _ in others for op in sources.lives.passes[other]})
    line = index.span_line(store.span)
    return sources.finding(
        f"Line {line}: {store.name} is another tensor from here on, and {optimizer.name} goes on to step the one that "
        f"it was given, which gets no gradient any more ({index.times(passes):,} passes)",
        op=passes[-1],
        tensors=[leaf],
        causes=sources.cause_of_span("made", store.span),
        evidence=[Evidence("events", optimizer.made.row), Evidence("tensors", tensor)],
        advice="Write the new values into the parameter, under torch.no_grad(): copy_().",
    )


DIAGNOSIS = Diagnosis(
    code="parameter-replaced",
    title="an optimizer steps a tensor whose name is another's by now",
    severity="warning",
    explanation=Explanation(
        meaning="""A tensor was given to an optimizer, and a later statement gave its name to a new leaf. Backward
            passes fill the .grad of the new one, and the optimizer's steps find none in the one that they know.""",
        reason="""An optimizer holds tensors, not names. w = project(w).detach().requires_grad_() makes a new tensor and
            leaves the old one as it is, where the optimizer has it.""",
        remedy="""Change the values and keep the tensor: with torch.no_grad(): w.copy_(project(w)). Where the tensor has
            to be another (another shape), make a new optimizer after it.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
for step in range(5):
    optimizer.zero_grad()
    w.pow(2).sum().backward()
    optimizer.step()
    w = w.clamp(0, 1).detach().requires_grad_()
""",
        instead_of="w = w.clamp(0, 1).detach().requires_grad_()",
        silent="w.data.clamp_(0, 1)",
    ),
    find=_find,
)

"""A new layer that was put into a model and then frozen with all that was there before: it keeps its random values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.writes import all_writes, replaced_memory
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.frames.modules.layers_put_in import layer_put_in
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import EventKind, OpKind

PASSES = 3
"""Passes through the layer, which others were trained by, from which on it is reported."""


class _New(NamedTuple):
    """The parameters of a layer that a statement put into a model, and one later statement froze."""

    made: int
    """An op of the statement that made it."""
    frozen: int
    """The op that froze the first of them."""
    place: str
    """What the text calls the place."""
    tensors: list[int]


def _find(sources: Sources) -> Iterator[Finding]:
    index, lives = sources.index, sources.lives
    layers = _layers(sources)
    steps = sorted({step for ops in lives.steps.values() for step in ops}) if layers else []
    written = {tensor for op, tensor, *_ in all_writes(index) if not _begins(index, op)} if layers else set()
    written |= {tensor for _, tensor, _ in replaced_memory(index)} if layers else set()
    for layer in layers:
        if not written.isdisjoint(layer.tensors):
            continue  # loaded, or a copy of what was there
        trained = [one for one in lives.steps if _has_same_root(sources, one, layer, steps[-1])]
        own = sorted(step for one in trained for step in lives.steps[one] if step > layer.frozen)
        passes = [op for op in index.roots if own and own[0] < op < own[-1]]
        ways = [op for op in passes if _is_the_only_way(sources, layer, op, steps)]
        if len(ways) >= PASSES and len(ways) == len(passes):
            yield _finding(sources, layer, ways)


def _layers(sources: Sources) -> list[_New]:
    """New layers that were frozen for good before anything trained them, with others by the same statement."""
    index, changes = sources.index, sources.index.recording.changes
    by_freeze: dict[int, dict[int, int]] = {}
    for tensor, rows in index.changed_ops.items():
        last = changes[rows[-1]]
        if last.before and not last.after and tensor not in sources.lives.passes:
            by_freeze.setdefault(index.op_statement[last.op], {})[tensor] = last.op
    found: dict[tuple[int, int], _New] = {}
    for statement, frozen in by_freeze.items():
        lines = {tensor: index.made_by(tensor) for tensor in frozen if index.is_new_parameter(tensor)}
        for tensor, made in lines.items():
            if len({index.op_statement[one] for one in lines.values()}) < 2 or made > frozen[tensor]:
                continue
            where = index.statements[index.op_statement[made]]
            text = index.recording.files[where.file].text if where.file >= 0 else ""
            if place := layer_put_in(text, index.op_line(made)):
                key = (statement, index.op_statement[made])
                found.setdefault(key, _New(made, frozen[tensor], place, [])).tensors.append(tensor)
    return [*found.values()]


def _has_same_root(sources: Sources, trained: int, layer: _New, op: int) -> bool:
    """Whether what is trained is a part of the model that has the layer, as their names say."""
    first, dot, _ = sources.names.at(trained, op).partition(".")
    return bool(dot) and sources.names.at(layer.tensors[0], op).partition(".")[0] == first


def _begins(index: Index, op: int) -> bool:
    """Whether a write gives a parameter its first values."""
    return op >= index.op_count or index.func(op).startswith("nn.init.") or index.func(op).endswith(".__init__")


def _is_the_only_way(sources: Sources, layer: _New, backward: int, steps: list[int]) -> bool:
    """Whether all that a loss was computed from goes through the layer, and weights behind it alone are trained.

    A teacher's layer, or one of another model, is passed by on the way from the same inputs. Weights of a product that
    come after it may be meant to learn from random features.
    """
    index = sources.index
    since = max((step for step in steps if step < backward), default=layer.frozen)
    uses = [op for one in layer.tensors for op in index.users.of(one) if since < op < backward]
    if not uses:
        return False
    made_at = index.recording.tensors.column("op")
    flags, tensors = index.recording.tensors.column("flags"), index.recording.layouts
    layouts = index.recording.tensors.column("layout")
    through = set(uses)
    before = _behind(index, [one for op in uses for one in index.uses.of(op)], since, set())
    beside = _behind(index, list(index.roots[backward]), since, through)
    if not any(made_at[one] in through for one in beside):
        return False
    plain = {one for one in before & beside if not flags[one] & PARAMETER}
    matrices = [one for one in beside if flags[one] & PARAMETER and "," in _inner(index, tensors[layouts[one]].shape)]
    return not plain and not matrices


def _inner(index: Index, shape: int) -> str:
    """``3, 4`` of ``(3, 4)``, and ``3`` of ``(3,)``."""
    return index.recording.text(shape).strip("()").rstrip(",")


def _behind(index: Index, starts: list[int], since: int, ends: set[int]) -> set[int]:
    """All that some tensors were computed from after an op, not going on behind what certain ops made."""
    made_at, kinds = index.recording.tensors.column("op"), index.recording.ops.column("kind")
    seen, todo = set(starts), list(starts)
    while todo:
        op = made_at[todo.pop()]
        if not since < op < index.op_count or op in ends or kinds[op] in (OpKind.BACKWARD, OpKind.STEP):
            continue
        further = set(index.uses.of(op)) - seen
        seen |= further
        todo += further
    return seen


def _finding(sources: Sources, layer: _New, passes: list[int]) -> Finding:
    index, line = sources.index, sources.index.op_line(layer.made)
    names = sources.listed([sources.names.of(tensor) for tensor in layer.tensors])
    span = _called_in(sources, layer)
    by = index.span_line(span) if span >= 0 else index.op_line(layer.frozen)
    causes = [*sources.cause_of_span("set", span), *sources.cause("made", layer.made)]
    return sources.finding(
        f"Line {by} freezes the new layer that line {line} put in at {layer.place} ({names}), with all that was there "
        "before",
        why=f"it keeps its random values, and {index.times(passes):,} backward passes train others through it",
        op=passes[-1],
        tensors=layer.tensors,
        causes=[*causes, *sources.cause("set", layer.frozen)],
        evidence=[Evidence("ops", layer.frozen), Evidence("ops", layer.made)],
        advice="Freeze first and put the new layer in after that.",
    )


def _called_in(sources: Sources, layer: _New) -> int:
    """The span at which the function that made the layer calls what freezes; the freezing's own where it is there."""
    index = sources.index
    own, function = index.recording.ops.column("span")[layer.frozen], index.op_place(layer.made).function
    ways = [own]
    for event in sources.events.of(EventKind.FROZEN):
        way = event.detail.get("through")
        if event.span == own and isinstance(way, list):
            ways += [one for one in way if isinstance(one, int) and 0 <= one < len(index.recording.spans)]
            break
    spans = index.recording.spans
    return next(
        (one for one in ways if index.recording.text(spans[one].function) == function), own if own >= 0 else NONE
    )


DIAGNOSIS = Diagnosis(
    code="new-layer-frozen",
    title="a new layer is frozen with those that were there before",
    severity="warning",
    explanation=Explanation(
        meaning="""A statement put a new layer into a model (model.fc = nn.Linear(…)), and a later one switched
            requires_grad off for all parameters of the model, the new ones among them. Nothing wrote them any more,
            and all that the loss was computed from went through them.""",
        reason="""parameters() gives what is there when it is called. A layer that was put in before is frozen like
            the others; the training goes on with what is left, and raises no error as long as there is something.""",
        remedy="""Freeze the pretrained model first and put the new layer in after that, or set requires_grad of the new
            layer back.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 10))
model[2] = nn.Linear(4, 2)
model.requires_grad_(False)
model[1].requires_grad_(True)
optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
for step in range(6):
    optimizer.zero_grad()
    model(torch.rand(5, 3)).pow(2).mean().backward()
    optimizer.step()
""",
        instead_of="model.requires_grad_(False)",
        silent="model[0].requires_grad_(False)",
    ),
    find=_find,
)

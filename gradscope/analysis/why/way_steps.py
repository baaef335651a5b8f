"""A way as an answer shows it: a line a step, calls of one line that follow each other as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.ways import Way, WayLink
from gradscope.analysis.facts.value_looks import Range
from gradscope.analysis.report_model import Place
from gradscope.analysis.why.why_model import SeenGradient, WayStep
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import Field, OpKind


class WaySteps:
    """Describes ways.

    Args:
        sources: What was recorded.
        seen: What is known of gradients from elsewhere, by tensor.
    """

    def __init__(self, sources: Sources, seen: dict[int, SeenGradient]) -> None:
        self._sources = sources
        self._index = sources.index
        self._seen = seen

    def describe(self, way: Way) -> tuple[WayStep, ...]:
        """The steps, the loss first."""
        steps: list[WayStep] = []
        if way.start >= 0:
            steps.append(self._pass(way))
        steps += self._links(way, way.links)
        if way.has_gap:
            steps.append(_gap())
            steps += self._links(way, way.below)
        elif way.below:
            steps += self._links(way, way.below)
        steps.append(self._tensor(way))
        return tuple(steps)

    def _pass(self, way: Way) -> WayStep:
        index = self._index
        roots = self._sources.gradients.roots[way.start]
        return WayStep(
            kind="pass",
            place=index.op_place(way.start),
            name=self._sources.names.at(way.root if way.root in roots else roots[0], way.start),
            op=index.call_name(way.start),
            grad_fn="",
            is_leaf=False,
            cut="",
            saved_bytes=0,
            calls=1,
            gradient=None,
        )

    def _links(self, way: Way, links: Sequence[WayLink]) -> Iterator[WayStep]:
        """Links of one statement as one step, unless autograd loses track at one of them."""
        for (_, cut), group in groupby(links, key=self._statement_and_cut):
            yield self._step(way, list(group), cut >= 0)

    def _statement_and_cut(self, link: WayLink) -> tuple[int, int]:
        """The forward of a custom Function is never tracked, and cuts nothing: its node stands for it.

        But that of a reentrant checkpoint, which makes no node where nothing that it is given requires grad, and
        autograd.grad, whose results have no graph without create_graph.
        """
        cuts = self._sources.cuts
        asks = self._index.recording.ops.column("kind")[link.op] == OpKind.GRAD
        is_cut = link.loses and (asks or bool(cuts.is_cut[link.op]) or cuts.reentrant.around(link.op) is not None)
        return self._index.op_statement[link.op], link.op if is_cut else NONE

    def _step(self, way: Way, links: list[WayLink], loses: bool) -> WayStep:
        index, names = self._index, self._sources.names
        first = links[0]
        name = names.at(first.gives, first.op) if first.gives >= 0 else ""
        nodes = [node for link in links if (node := self._node(link.gives, link.op)) >= 0]
        saved = index.recording.saved.column("nbytes")
        return WayStep(
            kind="cut" if loses else "step",
            place=index.op_place(first.op),
            name=name,
            op=index.call_name(first.op),
            grad_fn=self._node_name(nodes[0]) if nodes and not loses else "",
            is_leaf=False,
            cut=f"cut at {self._sources.cuts.where(first.op)}" if loses else "",
            saved_bytes=sum(saved[row] for node in dict.fromkeys(nodes) for row in index.saved.of(node)),
            calls=len(links),
            gradient=self._gradient(first.gives, way.start),
        )

    def _tensor(self, way: Way) -> WayStep:
        """The tensor itself, where it was made."""
        index, tensor = self._index, way.tensor
        made_at = index.made_by(tensor)
        end = way.start if way.start >= 0 else index.op_count
        node = self._node(tensor, end)
        place = index.op_place(made_at) if made_at >= 0 else self._first_seen(tensor)
        stored = self._sources.stored(tensor, end)
        if stored and made_at < 0:
            cause = stored[0]
            place = Place(cause.file, cause.line, cause.end_line, cause.function, cause.source)
        return WayStep(
            kind="tensor",
            place=place,
            name=self._sources.names.of(tensor),
            op=index.call_name(made_at) if made_at >= 0 else "",
            grad_fn=self._node_name(node) if node >= 0 else "",
            is_leaf=index.is_leaf(tensor),
            cut="",
            saved_bytes=0,
            calls=1,
            gradient=self._gradient(tensor, way.start),
        )

    def _first_seen(self, tensor: int) -> Place:
        """Nowhere for what a library made: the line that first used it says nothing of where it comes from."""
        op, flags = (self._index.recording.tensors.column(name)[tensor] for name in ("op", "flags"))
        is_made = not flags & EXTERNAL and op < self._index.op_count
        return self._index.op_place(op if is_made else NONE)

    def _node(self, tensor: int, op: int) -> int:
        """The ``grad_fn`` of a tensor after an op."""
        if tensor < 0:
            return NONE
        node = self._index.recording.tensors.column("node")[tensor]
        op = max(op, self._index.given_by_functions.get(tensor, op))  # seen inside a Function's forward, without one
        for changed_at, after in self._nodes_later.get(tensor, ()):
            if changed_at <= op:
                node = after
        return node

    @cached_property
    def _nodes_later(self) -> dict[int, list[tuple[int, int]]]:
        """For each tensor whose ``grad_fn`` changed: the ops, and the nodes that it had then."""
        changes, found = self._index.recording.changes, dict[int, list[tuple[int, int]]]()
        columns = (changes.column(name) for name in ("op", "tensor", "field", "after"))
        for op, tensor, field, after in zip(*columns, strict=True):
            if field == Field.GRAD_FN:
                found.setdefault(tensor, []).append((op, after))
        return found

    @cached_property
    def _looked(self) -> dict[int, dict[int, Range]]:
        """By backward pass, the ranges of the gradients that it gave, where it was looked at."""
        return {look.op: look.gradients for look in self._sources.looks}

    def _node_name(self, node: int) -> str:
        return self._index.recording.text(self._index.recording.nodes.column("name")[node])

    def _gradient(self, tensor: int, start: int) -> SeenGradient | None:
        if tensor in self._seen:
            return self._seen[tensor]
        if start < 0 or self._index.recording.ops.column("kind")[start] != OpKind.BACKWARD:
            return None
        values = self._looked.get(start, {}).get(tensor)
        return None if values is None else SeenGradient(False, None, *values)


def _gap() -> WayStep:
    return WayStep("gap", Place("", 0, 0, "", ""), "", "", "", False, "", 0, 0, None)

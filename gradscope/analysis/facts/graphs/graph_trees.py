"""The graph behind a root, as a tree down to named leaves: shared nodes once, long chains and deep parts folded.

Graphs may be a million nodes deep: nothing here recurses, and a tree has at most ``ROWS_SHOWN`` rows.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import NamedTuple

from gradscope.analysis.facts.gradients import Gradients
from gradscope.analysis.facts.graphs.module_units import ModuleUnit, ModuleUnits
from gradscope.analysis.facts.modules.module_trees import ModuleTrees
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Graph, GraphRow, SavedTensor
from gradscope.recording import NONE
from gradscope.recording.rows import Field

ROWS_SHOWN = 300
DEPTH_SHOWN = 40
CHAIN_SHOWN = 6
"""A chain of nodes with one input each that is longer than this is folded; its first and last nodes stay."""
GRAPHS_SHOWN = 8


class _Extent(NamedTuple):
    """What the walk over a whole graph found."""

    nodes: list[int]
    depth: int
    consumers: array[int]
    """For each node of the recording, how many of the graph's nodes lead to it."""
    member: bytearray
    """1 for each node of the recording that is in the graph."""


class Root(NamedTuple):
    """Where a graph begins."""

    tensor: int
    node: int
    """Its grad_fn then."""
    op: int
    """The backward pass that walked it; NONE where none did."""
    executions: int
    """Passes at that place."""


class Graphs:
    """Describes the graphs of a recording."""

    def __init__(
        self, index: Index, names: BestNames, passes: Passes, gradients: Gradients, trees: ModuleTrees | None = None
    ) -> None:
        self._units = None if trees is None else ModuleUnits(index, trees, self._next)
        self._index = index
        self._recording = index.recording
        self._names = names
        self._passes = passes
        self._gradients = gradients

    def describe(self) -> tuple[Graph, ...]:
        """The graph of the last pass at each place; where none ran, that of the last tensor with a grad_fn."""
        return tuple(self._describe(*root) for root in self.roots())

    def roots(self) -> list[Root]:
        """Where the graphs that are shown begin."""
        node_of = {(row.op, row.root): row.node for row in self._recording.backwards}
        found = []
        groups = sorted(self._gradients.groups, key=lambda group: self._index.times(group.ops))[-GRAPHS_SHOWN:]
        for group in sorted(groups, key=lambda group: group.last_op):
            for root in self._gradients.roots[group.last_op]:
                node = node_of.get((group.last_op, root), NONE)
                if node >= 0:
                    found.append(Root(root, node, group.last_op, self._index.times(group.ops)))
        return found or [Root(tensor, node, NONE, 0) for tensor, node in self._last_with_node()]

    def _last_with_node(self) -> list[tuple[int, int]]:
        """The named tensor that got its grad_fn last, at its birth or by a write in place, and that grad_fn."""
        tensors, changes = self._recording.tensors, self._recording.changes
        last = list(zip(tensors.column("op"), tensors.column("node"), strict=True))
        for op, tensor, field, node in zip(*map(changes.column, ("op", "tensor", "field", "after")), strict=True):
            if field == Field.GRAD_FN:
                last[tensor] = (op, node)
        tracked = ((op, tensor, node) for tensor, (op, node) in enumerate(last) if node >= 0)
        latest = max((found for found in tracked if self._names.is_named(found[1])), default=None)
        return [latest[1:]] if latest is not None else []

    def _next(self, node: int) -> array[int]:
        starts = self._passes.edge_starts
        return self._index.edges.values[starts[node] : starts[node + 1]]

    def _describe(self, root: int, node: int, op: int, executions: int) -> Graph:
        """The graph as an op walked it; NONE where none did."""
        extent = self._measure(node)
        units = [] if self._units is None else self._units.of(extent.nodes, op)
        variables = self._recording.nodes.column("variable")
        leaves = dict.fromkeys(self._names.at(variables[at], op) for at in extent.nodes if variables[at] >= 0)
        return Graph(
            root=self._names.at(root, op),
            line=self._index.op_line(op),
            executions=executions,
            nodes=len(extent.nodes),
            depth=extent.depth,
            leaves=tuple(leaves),
            saved_bytes=self._saved_bytes(extent.member),
            rows=tuple(self._folded_tree(node, units, op) if units else self._tree(node, extent, op)),
        )

    def _measure(self, root: int) -> _Extent:
        """Every node, and the longest path: a node is taken when all of its consumers were."""
        starts, following = self._passes.edge_starts, self._index.edges.values
        count = len(self._recording.nodes)
        consumers, depths, member = array("i", bytes(4 * count)), array("i", bytes(4 * count)), bytearray(count)
        nodes, stack, member[root] = [], [root], 1
        while stack:
            node = stack.pop()
            nodes.append(node)
            for after in following[starts[node] : starts[node + 1]]:
                if after >= 0:
                    consumers[after] += 1
                    if not member[after]:
                        member[after] = 1
                        stack.append(after)
        waiting, stack, depths[root] = consumers[:], [root], 1
        while stack:
            node = stack.pop()
            below = depths[node] + 1
            for after in following[starts[node] : starts[node + 1]]:
                if after >= 0:
                    if depths[after] < below:
                        depths[after] = below
                    waiting[after] -= 1
                    if not waiting[after]:
                        stack.append(after)
        return _Extent(nodes, max(depths), consumers, member)

    def _saved_bytes(self, member: bytearray) -> int:
        """Kept by the nodes of a graph, each memory block once."""
        total, seen = 0, bytearray(len(self._recording.storages))
        storage_bytes, rows = self._recording.storages.column("nbytes"), self._recording.saved
        columns = (rows.column(name) for name in ("node", "storage", "nbytes"))
        for node, storage, nbytes in zip(*columns, strict=True):
            if not member[node]:
                continue
            if storage < 0:
                total += nbytes
            elif not seen[storage]:
                seen[storage] = 1
                total += storage_bytes[storage]
        return total

    def _tree(self, root: int, extent: _Extent, op: int) -> list[GraphRow]:
        """Rows in preorder, children in the order of the op's inputs."""
        rows: list[GraphRow] = []
        shown: set[int] = set()
        stack = [(root, -1, 0)]
        while stack:
            node, parent, depth = stack.pop()
            if node in shown:
                rows.append(self._node_row(node, parent, depth, op, repeated=True))
                continue
            if len(rows) >= ROWS_SHOWN or depth >= DEPTH_SHOWN:
                rest = [node] if len(rows) < ROWS_SHOWN else [node, *(entry[0] for entry in stack)]
                if row := self._rest_row(rest, parent, depth, shown, op):
                    rows.append(row)
                if len(rest) > 1:
                    break
                continue
            chain = self._chain(node, extent.consumers, shown)
            if len(chain) > CHAIN_SHOWN:
                node, parent, depth = self._add_chain(chain, parent, depth, rows, op)
            else:
                rows.append(self._node_row(node, parent, depth, op))
                parent = len(rows) - 1
            shown.update(chain if len(chain) > CHAIN_SHOWN else [node])
            following = [after for after in self._next(node) if after >= 0]
            stack.extend((after, parent, depth + 1) for after in reversed(following))
        return rows

    def _folded_tree(self, root: int, units: list[ModuleUnit], op: int) -> list[GraphRow]:
        """Rows in preorder, each module as one row; what is in no module stands by itself."""
        unit_of = {node: unit for unit in units for node in unit.nodes}
        rows: list[GraphRow] = []
        shown: set[int] = set()
        stack = [(root, -1, 0)]
        while stack:
            node, parent, depth = stack.pop()
            unit = unit_of.get(node)
            if node not in shown and (len(rows) >= ROWS_SHOWN or depth >= DEPTH_SHOWN):
                rest = [node] if len(rows) < ROWS_SHOWN else [node, *(entry[0] for entry in stack)]
                if row := self._rest_row(rest, parent, depth, shown, op):
                    rows.append(row)
                if len(rest) > 1:
                    break
                continue
            if node in shown:
                again = self._folded_row(parent, depth, len(unit.nodes), unit.name) if unit else None
                row = again._replace(repeated=True) if again else self._node_row(node, parent, depth, op, repeated=True)
                rows.append(row)
                continue
            members = [node] if unit is None else sorted(unit.nodes)
            rows.append(
                self._node_row(node, parent, depth, op) if unit is None else self._unit_row(unit, parent, depth)
            )
            shown.update(members)
            below: dict[object, int] = {}
            for after in (after for one in members for after in self._next(one)):
                if after >= 0 and (unit is None or after not in unit.nodes):
                    below.setdefault(id(unit_of[after]) if after in unit_of else after, after)
            stack.extend((after, len(rows) - 1, depth + 1) for after in reversed(list(below.values())))
        return rows

    def _unit_row(self, unit: ModuleUnit, parent: int, depth: int) -> GraphRow:
        variables, member = self._recording.nodes.column("variable"), bytearray(len(self._recording.nodes))
        for node in unit.nodes:
            member[node] = 1
        leaves = sum(variables[node] >= 0 for node in unit.nodes)
        return self._folded_row(parent, depth, len(unit.nodes), unit.summary(self._saved_bytes(member), leaves))

    def _chain(self, node: int, consumers: array[int], shown: set[int]) -> list[int]:
        """A node and those after it, as long as each has one input and that no other consumer."""
        chain = [node]
        while True:
            following = [after for after in self._next(chain[-1]) if after >= 0]
            if len(following) != 1 or consumers[following[0]] > 1 or following[0] in shown:
                return chain
            if self._recording.nodes.column("variable")[following[0]] >= 0:
                return chain
            chain.append(following[0])

    def _add_chain(
        self, chain: list[int], parent: int, depth: int, rows: list[GraphRow], op: int
    ) -> tuple[int, int, int]:
        """Rows for a long chain; returns its last node, that node's row, and its depth."""
        middle = chain[2:-1]
        for node in chain[:2]:
            rows.append(self._node_row(node, parent, depth, op))
            parent, depth = len(rows) - 1, depth + 1
        rows.append(self._folded_row(parent, depth, len(middle), self._count_names(middle)))
        parent, depth = len(rows) - 1, depth + 1
        rows.append(self._node_row(chain[-1], parent, depth, op))
        return chain[-1], len(rows) - 1, depth

    def _rest_row(self, starts: list[int], parent: int, depth: int, shown: set[int], op: int) -> GraphRow | None:
        """One row for all nodes below that were not shown yet."""
        rest, stack = [], [node for node in starts if node not in shown]
        shown.update(stack)
        while stack:
            node = stack.pop()
            rest.append(node)
            for after in self._next(node):
                if after >= 0 and after not in shown:
                    shown.add(after)
                    stack.append(after)
        if not rest:
            return None
        variables = self._recording.nodes.column("variable")
        leaves = [self._names.at(variables[node], op) for node in rest if variables[node] >= 0]
        summary = self._count_names([node for node in rest if variables[node] < 0])
        reached = f"; down to {', '.join(leaves[:4])}{' …' * (len(leaves) > 4)}" if leaves else ""
        return self._folded_row(parent, depth, len(rest), summary + reached)

    def _count_names(self, nodes: list[int]) -> str:
        counted = Counter(map(self._recording.nodes.column("name").__getitem__, nodes)).most_common(4)
        return ", ".join(f"{count} {self._recording.text(name)}" for name, count in counted)

    @staticmethod
    def _folded_row(parent: int, depth: int, count: int, summary: str) -> GraphRow:
        return GraphRow(-1, parent, depth, "", "", 0, False, (), False, count, summary, 0)

    def _node_row(self, node: int, parent: int, depth: int, op: int, repeated: bool = False) -> GraphRow:
        recording = self._recording
        row = recording.nodes[node]
        tensor = row.variable if row.variable >= 0 else self._index.node_tensor[node]
        # A result is called what the line calls it that made it, a leaf what the line of the backward pass calls it.
        name = self._names.at(tensor, op if row.variable >= 0 else row.op)
        saved = () if repeated else tuple(map(self._saved, self._index.saved.of(node)))
        return GraphRow(
            node=node,
            parent=parent,
            depth=depth,
            name=recording.text(row.name),
            tensor="" if name.startswith("<") else name,
            line=self._line(row.op, row.variable),
            is_leaf=row.variable >= 0,
            saved=saved,
            repeated=repeated,
            folded=0,
            summary="",
            untracked_inputs=sum(after < 0 for after in self._next(node)),
        )

    def _line(self, op: int, variable: int) -> int:
        """Where a node, or the leaf it stands for, was made."""
        return self._index.op_line(op if variable < 0 else self._index.made_by(variable))

    def _saved(self, row: int) -> SavedTensor:
        saved = self._recording.saved[row]
        name = self._names.at(saved.tensor, self._recording.nodes.column("op")[saved.node])
        text = self._recording.text(saved.attr)
        return SavedTensor(text, "" if name.startswith("<") else name, saved.nbytes)

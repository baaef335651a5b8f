"""Custom Functions whose backward gave None to what leads to a leaf."""

from __future__ import annotations

from gradscope.analysis.facts.derivatives.function_sources import FunctionSources, Lines
from gradscope.analysis.facts.derivatives.overwritten_grads import keeps_gradient
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.reaching.conditional_gradients import ConditionalGradient, conditional_gradient
from gradscope.analysis.index import Index
from gradscope.recording.flags import RAISED

_Place = tuple[Lines, bool] | ConditionalGradient


def _under(given: ConditionalGradient) -> str:
    """Where a gradient is computed, and what did not let pass."""
    name = f"{given.name}, line" if given.name else "line"
    where = f" ({name} {given.computed.line})" if given.computed.line != given.condition.line or given.name else ""
    if given.branch != "if":
        return f"{where} only in the {given.branch} of line {given.condition.line}, which was not entered"
    if not given.test:
        return f"{where} only where the condition of line {given.condition.line} does not hold, and it held"
    asks = f"asks for {given.told_of} and " if given.told_of else ""
    return f"{where} only under the condition of line {given.condition.line} ({given.test}), which {asks}did not hold"


class GivenNone:
    """Finds on the way from a leaf up to the roots of a pass the Functions that ended it."""

    def __init__(self, index: Index, passes: Passes, functions: FunctionSources) -> None:
        self._index = index
        self._passes = passes
        self._functions = functions
        self._edges_by_pass: dict[int, dict[int, list[tuple[int, int, int]]]] = {}

    def why(self, leaf: int, op: int) -> tuple[str, tuple[Lines, ...], bool, bool] | None:
        """That custom Functions which a pass came through gave a leaf None, or None where that is not known.

        With the lines, whether each of the Functions has a backward only for what it writes, and whether each keeps
        a gradient elsewhere.
        """
        given = self._functions_before(leaf, op)
        if not given:
            return None
        phrases, lines = [], []
        for node, place in given.items():
            name = self._name_of_function(node)
            if place is None:
                at = self._index.op_line(self._index.recording.nodes.column("op")[node])
                phrases.append(f"the backward of {name} (line {at}) gave it no gradient (None)")
            elif isinstance(place, ConditionalGradient):
                lines += [place.condition, place.computed]
                phrases.append(f"{name}'s backward computes its gradient{_under(place)}")
            elif not place[1] and (written := self._functions.of_node(node)) and written.untracked is not None:
                untracked = written.untracked
                lines.append(untracked.computed)
                phrases.append(
                    f"{name}'s backward computes {untracked.name} at line {untracked.computed.line} without "
                    f"torch.enable_grad(), and line {untracked.asked.line} finds no graph behind it (None)"
                )
            else:
                lines.append(place[0])
                said = "returns None for it at" if place[1] else "gave it no gradient (None):"
                phrases.append(f"{name}'s backward {said} line {place[0].line}")
        why = " and ".join(dict.fromkeys(phrases))
        sources = [self._functions.of_node(node) for node in given]
        only_writes = all(source is not None and source.only_writes for source in sources)
        keeps = all(source is not None and keeps_gradient(source) for source in sources)
        return f"the graph leads to it, but {why}", tuple(dict.fromkeys(lines)), only_writes, keeps

    def _functions_before(self, leaf: int, op: int) -> dict[int, _Place | None]:
        """The custom Functions that gave nothing to what leads to a leaf, each with the lines that say so.

        From the leaf up: a node of torch's passes on what it is given, and so does a Function that computes a gradient
        by its source. Empty where a way up leads to no Function that may have given None.
        """
        before = self._edges_into(op)
        found: dict[int, _Place | None] = {}
        variable = self._index.recording.nodes.column("variable")
        names, functions = self._index.recording.nodes.column("name"), self._index.custom_functions
        stack = [node for node in before if variable[node] == leaf]
        seen = set(stack)
        while stack:
            node = stack.pop()
            if not before.get(node):
                return {}
            for above, position, inputs in before[node]:
                if names[above] in functions:
                    source = self._functions.of_node(above)
                    place = None if source is None else source.gives_none(position, inputs)
                    if source is None or place is not None:
                        under = None if source is None else conditional_gradient(source, position, inputs)
                        found[above] = under or place
                        continue
                if above not in seen:
                    seen.add(above)
                    stack.append(above)
        return found

    def _edges_into(self, op: int) -> dict[int, list[tuple[int, int, int]]]:
        """For each node behind the roots of a pass: the nodes that lead to it, by which of how many edges."""
        if self._index.recording.ops.column("flags")[op] & RAISED:
            return {}
        known = self._edges_by_pass.get(op)
        if known is None:
            starts, following = self._passes.edge_starts, self._index.edges.values
            known = {}
            roots = self._index.root_nodes(op)
            for node in dict.fromkeys(node for root in roots for node in self._passes.behind(root)):
                first, end = starts[node], starts[node + 1]
                for position in range(first, end):
                    if following[position] >= 0:
                        known.setdefault(following[position], []).append((node, position - first, end - first))
            self._edges_by_pass = {op: known}
        return known

    def _name_of_function(self, node: int) -> str:
        recording = self._index.recording
        return recording.text(recording.nodes.column("name")[node]).removesuffix("Backward")

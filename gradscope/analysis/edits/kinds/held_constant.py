"""What is to be a constant of a loss is cut off from its graph: a target, an advantage, the old log-probability."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.analysis.edits.cause_nodes import CauseNodes, cause_nodes, inside, method_call
from gradscope.analysis.edits.edit_model import Edit, EditSources
from gradscope.analysis.edits.span_changes import Changes, append
from gradscope.analysis.report_model import Answer

_DETACH = ".detach()"


def edits(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``target = (reward + gamma * value).detach()``; what is returned, or given to a call, likewise."""
    for at in cause_nodes(answer, sources, ("made",)):
        for value in _values(at):
            if method_call(value, "detach") is None:
                title = "keep the value as a constant, without its graph"
                yield Edit(title, at.file, append(at.source, value, _DETACH))


def _values(at: CauseNodes) -> Iterator[ast.expr]:
    statement = at.statement
    value = statement.value if isinstance(statement, (ast.Assign, ast.Return)) else None
    if value is not None and not isinstance(value, (ast.Tuple, ast.List, ast.Dict)):
        yield value
    else:
        yield from at.nodes[:1]


def factors(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``log_prob * advantage.detach()``: where a weight is multiplied, as it may be trained elsewhere."""
    made = [
        at.source.code(target)
        for at in cause_nodes(answer, sources, ("made",))
        if isinstance(at.statement, ast.Assign)
        for target in at.statement.targets
    ]
    for at in cause_nodes(answer, sources, ("used",)):
        changes: Changes = ()
        for node in inside(at.statement):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
                for side in (node.left, node.right):
                    if at.source.code(side) in made:
                        changes = (*changes, *append(at.source, side, _DETACH))
        if changes:
            yield Edit("weigh by the value alone, without its graph", at.file, changes)

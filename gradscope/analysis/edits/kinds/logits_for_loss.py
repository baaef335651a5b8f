"""A loss that takes logits is given them, and only the loss: what else reads the probabilities still gets these."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from gradscope.analysis.edits.cause_nodes import called_name, cause_nodes, inside, method_call
from gradscope.analysis.edits.edit_model import Edit, EditSources
from gradscope.analysis.edits.source_text import SourceText
from gradscope.analysis.edits.span_changes import Changes, keep_only, put, remove
from gradscope.analysis.report_model import Answer

_LOSS = re.compile(r"loss|entropy|criterion|bce|nll", re.IGNORECASE)
_THRESHOLD = re.compile(r"[<>]=?\s*0?\.\d|\bround\(")
"""What is done with probabilities, and would be wrong with logits."""


def edits(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """The softmax or sigmoid is dropped where only the loss reads it; else the loss alone reads the logits."""
    for at in cause_nodes(answer, sources, ("used", "made")):
        source = at.source
        for node in at.nodes:
            logits = _logits(source, node)
            if logits is not None:
                changes = _changes(source, at.statement, node, logits, sources)
                if changes:
                    yield Edit(f"leave the {called_name(node)} to the loss", at.file, changes)


def _logits(source: SourceText, node: ast.expr) -> ast.expr | None:
    """What a softmax or sigmoid is computed of."""
    if called_name(node) not in ("softmax", "sigmoid") or not isinstance(node, ast.Call):
        return None
    method = method_call(node)
    modules = (source.imported("torch"), source.imported("torch.nn.functional"))
    if method is None or source.code(method.value) in modules:
        return node.args[0] if node.args else None
    return method.value


def _changes(
    source: SourceText, statement: ast.stmt, node: ast.expr, logits: ast.expr, sources: EditSources
) -> Changes:
    outer = source.parents.get(node)
    if _is_loss(outer):
        return keep_only(source, node, logits)
    if isinstance(statement, ast.Return) and outer is statement:
        texts = [found.text for file in sources.files if (found := sources.text(file)) is not None]
        is_judged = any(_THRESHOLD.search(text) for text in texts)
        return () if called_name(node) == "sigmoid" and is_judged else keep_only(source, node, logits)
    if not isinstance(statement, ast.Assign) or outer is not statement or len(statement.targets) != 1:
        return ()
    target, given = source.code(statement.targets[0]), source.code(logits)
    reads = [
        one
        for one in inside(source.function(statement))
        if isinstance(one, (ast.Name, ast.Attribute))
        and source.code(one) == target
        and isinstance(one.ctx, ast.Load)
        and one.lineno > (statement.end_lineno or 0)
    ]
    by_loss = [one for one in reads if _is_loss(source.parents.get(one))]
    if reads and by_loss == reads:
        return remove(source, statement) if target == given else keep_only(source, node, logits)
    if isinstance(logits, (ast.Name, ast.Attribute)) and target != given:
        return tuple(change for one in by_loss for change in put(source, one, given))
    return ()


def _is_loss(node: ast.AST | None) -> bool:
    return node is not None and _LOSS.search(called_name(node)) is not None

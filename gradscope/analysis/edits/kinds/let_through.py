"""A function that lets no gradient through, or another than it should, is replaced by one that does."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.analysis.edits.cause_nodes import called_name, cause_nodes, inside, method_call
from gradscope.analysis.edits.edit_model import Edit, EditSources, SpanChange
from gradscope.analysis.edits.source_text import SourceText
from gradscope.analysis.edits.span_changes import Changes, append, keep_only, put
from gradscope.analysis.report_model import Answer

_SUMS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.MatMult)
_STEPS = ("round", "floor", "ceil", "trunc", "sign")


def sampled(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``rsample()``, which has a gradient, in place of ``sample()``."""
    for at in cause_nodes(answer, sources, ("cut",)):
        for node in at.nodes:
            method = method_call(node, "sample")
            if method is not None:
                end = at.source.span(method)[1]
                yield Edit("draw with a gradient", at.file, (SpanChange(end - len("sample"), end, "rsample"),))


def straight_through(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``x + (round(x) - x).detach()``: the gradient passes as if the step were not there."""
    for at in cause_nodes(answer, sources, ("cut",)):
        source = at.source
        for node in at.nodes:
            given = _given_to(source, node, *_STEPS)
            if given is None or any(isinstance(part, ast.Call) for part in ast.walk(given)):
                continue
            taken = source.operand(given)
            value = source.code(given) if isinstance(given, ast.BinOp) and isinstance(given.op, _SUMS) else taken
            text = f"{value} + ({source.code(node)} - {taken}).detach()"
            if not isinstance(source.parents.get(node), ast.stmt):
                text = f"({text})"
            yield Edit(f"pass the gradient through {called_name(node)}", at.file, put(source, node, text))


def detached_difference(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``x + (q - x).detach()`` in place of ``x + (q - x)``, whose gradient is that of ``q`` alone."""
    for at in cause_nodes(answer, sources):
        source = at.source
        for node in inside(at.statement):
            if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)):
                continue
            for kept, difference in ((node.left, node.right), (node.right, node.left)):
                is_difference = isinstance(difference, ast.BinOp) and isinstance(difference.op, ast.Sub)
                if is_difference and source.code(difference.right) == source.code(kept):  # type: ignore[attr-defined]
                    start, end = source.span(difference)
                    written = source.text[start - 1 : start] + source.text[end : end + 1]
                    behind = (SpanChange(end + 1, end + 1, ".detach()"),)
                    changes = behind if written == "()" else append(source, difference, ".detach()")
                    yield Edit(f"the gradient of {source.code(kept)}, the value of the other", at.file, changes)


def sigmoid_of_one(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``sigmoid`` in place of a softmax over a dimension of size 1, which is 1 whatever goes in."""
    for at in cause_nodes(answer, sources, ("cut",)):
        source, torch = at.source, at.source.imported("torch")
        for node in at.nodes:
            given = _given_to(source, node, "softmax")
            if given is not None and torch and "dimension of size 1" in answer.text:
                text = f"{torch}.sigmoid({source.code(given)})"
                yield Edit("sigmoid of the one logit", at.file, put(source, node, text))


def turned_round(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``x + (hard - x).detach()`` in place of ``hard + (x - hard).detach()``."""
    for at in cause_nodes(answer, sources, ("cut",)):
        source = at.source
        for node in inside(at.statement):
            if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)):
                continue
            method = method_call(node.right, "detach")
            difference = method.value if method is not None else None
            if not (isinstance(difference, ast.BinOp) and isinstance(difference.op, ast.Sub)):
                continue
            hard, soft = source.code(node.left), source.code(difference.left)
            if source.code(difference.right) == hard:
                changes = (
                    *put(source, node.left, soft),
                    *put(source, difference.left, hard),
                    *put(source, difference.right, soft),
                )
                yield Edit(f"the gradient of {soft}, the value of {hard}", at.file, changes)


def multiplied(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """What a backward returns is multiplied by the gradient that it is given, where it was computed without."""
    for at in cause_nodes(answer, sources, ("returned",)):
        source = at.source
        function = source.function(at.statement)
        if not isinstance(function, ast.FunctionDef) or len(function.args.args) != 2:
            continue
        given = function.args.args[1].arg
        changes: list[SpanChange] = []
        for returned in (node for node in inside(function) if isinstance(node, ast.Return)):
            value = returned.value
            parts = value.elts if isinstance(value, ast.Tuple) else [value] if value is not None else []
            for part in parts:
                if not isinstance(part, ast.Constant) and given not in _names_behind(function, part):
                    text = f"{given} * {source.code(part) if isinstance(part, ast.UnaryOp) else source.operand(part)}"
                    changes += put(source, part, text)
        if changes:
            yield Edit(f"multiply by {given}", at.file, tuple(changes))


def _names_behind(function: ast.FunctionDef, value: ast.expr) -> set[str]:
    """The names in an expression, and in what the function assigns to these."""
    found: set[str] = set()
    todo = [value]
    while todo:
        names = {node.id for node in ast.walk(todo.pop()) if isinstance(node, ast.Name)} - found
        found |= names
        for node in inside(function):
            targets = node.targets if isinstance(node, ast.Assign) else []
            written = {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
            if isinstance(node, ast.Assign) and written & names:
                todo.append(node.value)
    return found


def unwrapped(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A tensor that was computed is used itself, not as a Parameter, which keeps none of its history."""
    for at in cause_nodes(answer, sources, ("cut",)):
        source = at.source
        calls = [node for node in at.nodes if called_name(node) == "Parameter" and _is_of_one(node)]
        for call in calls[:1]:
            root = _root(call)
            alike = [
                node
                for node in inside(source.function(at.statement))
                if called_name(node) == "Parameter" and _is_of_one(node) and _root(node) == root and root
            ]
            for chosen in (alike, [call]):
                changes = tuple(change for node in chosen for change in _only_its_argument(source, node))
                yield Edit("use what was computed, not a new leaf", at.file, changes)


def _only_its_argument(source: SourceText, node: ast.AST) -> Changes:
    return keep_only(source, node, node.args[0]) if isinstance(node, ast.Call) else ()


def _is_of_one(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords


def _root(node: ast.AST) -> str:
    """The name that a Parameter is made of."""
    value: ast.AST = node.args[0] if isinstance(node, ast.Call) else node
    while not isinstance(value, ast.Name):
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            value = value.func.value
        elif isinstance(value, (ast.Attribute, ast.Subscript)):
            value = value.value
        else:
            return ""
    return value.id


def _given_to(source: SourceText, node: ast.expr, *names: str) -> ast.expr | None:
    """What a call of torch's function or of the method of a name is computed of."""
    if called_name(node) not in names or not isinstance(node, ast.Call):
        return None
    method = method_call(node)
    modules = (source.imported("torch"), source.imported("torch.nn.functional"))
    if method is None or source.code(method.value) in modules:
        return node.args[0] if node.args else None
    return method.value

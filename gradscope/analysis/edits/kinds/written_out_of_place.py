"""A write in place is made out of place, or writes into a copy."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.analysis.edits.cause_nodes import CauseNodes, called_name, cause_nodes, inside, method_call
from gradscope.analysis.edits.edit_model import Edit, EditSources, SpanChange
from gradscope.analysis.edits.source_text import SourceText
from gradscope.analysis.edits.span_changes import Changes, before, put, wrap
from gradscope.analysis.report_model import Answer

_OPERATORS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**", ast.MatMult: "@", ast.Mod: "%",
    ast.FloorDiv: "//", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^",
}  # fmt: skip
_ONLY_IN_PLACE = ("fill_", "copy_", "requires_grad_", "set_", "resize_", "normal_", "uniform_", "detach_")


def edits(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """Out of place where there is such a form and what it gives is used, else into a copy."""
    for at in cause_nodes(answer, sources, ("write",)):
        if _is_update(answer, at.statement):
            continue
        for title, changes in _of_write(at):
            if changes:
                yield Edit(title, at.file, changes)
    for at in cause_nodes(answer, sources, ("made",)):
        for node in at.nodes:
            for title, changes in _of_flag(at.source, node) if isinstance(node, ast.Call) else ():
                yield Edit(title, at.file, changes)


def _is_update(answer: Answer, statement: ast.stmt) -> bool:
    """Whether a leaf was to be written, or by way of a view of it, so that a new tensor would not be what is meant.

    Where other tensors are put into a view, the view is what is used from there on.
    """
    if answer.code != "inplace-refused" or "leaf that requires grad" not in answer.text:
        return False
    is_put_together = isinstance(statement, ast.Assign) and not isinstance(statement.value, ast.Constant)
    return "view of a leaf" not in answer.text or not is_put_together


def _of_write(at: CauseNodes) -> Iterator[tuple[str, Changes]]:
    source, statement = at.source, at.statement
    if isinstance(statement, ast.AugAssign):
        yield from _augmented(source, statement)
    elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
        yield from _into_copy(source, statement, statement.targets[0].value)
    for node in at.nodes:
        if isinstance(node, ast.Call):
            yield from _of_flag(source, node)
    for node in at.nodes:
        if isinstance(node, ast.Call):
            yield from _of_call(source, statement, node)


def _may_be_rebound(source: SourceText, statement: ast.stmt, target: ast.expr) -> bool:
    """Whether a name can stand for a new tensor from here on: what others hold would stay as it is.

    It is read again in its function, and is no loop's variable, which stands for a part of something else.
    """
    if isinstance(target, ast.Attribute):
        return isinstance(target.value, ast.Name) and target.attr not in ("data", "grad")
    if not isinstance(target, ast.Name):
        return False
    loops = [one for one in source.around(statement) if isinstance(one, (ast.For, ast.AsyncFor))]
    if any(isinstance(node, ast.Name) and node.id == target.id for loop in loops for node in ast.walk(loop.target)):
        return False
    last = statement.end_lineno or statement.lineno
    first = loops[0].lineno if loops else last
    return any(
        isinstance(node, ast.Name)
        and node.id == target.id
        and isinstance(node.ctx, ast.Load)
        and (node.lineno > last or first < node.lineno < statement.lineno)
        for node in inside(source.function(statement))
    )


def _augmented(source: SourceText, statement: ast.AugAssign) -> Iterator[tuple[str, Changes]]:
    target, operator = statement.target, _OPERATORS.get(type(statement.op))
    if isinstance(target, ast.Subscript):
        yield from _into_copy(source, statement, target.value)
        return
    if operator is None or not _may_be_rebound(source, statement, target):
        return
    name = source.code(target)
    value = source.code(statement.value)
    if isinstance(statement.value, (ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Lambda, ast.UnaryOp)):
        value = f"({value})"
    yield f"{operator}= out of place", put(source, statement, f"{name} = {name} {operator} {value}")


def _into_copy(source: SourceText, statement: ast.stmt, written: ast.expr) -> Iterator[tuple[str, Changes]]:
    while isinstance(written, ast.Subscript):
        written = written.value
    if _may_be_rebound(source, statement, written):
        name = source.code(written)
        yield f"write into a copy of {name}", before(source, statement, f"{name} = {name}.clone()")


def _of_flag(source: SourceText, call: ast.Call) -> Iterator[tuple[str, Changes]]:
    """``inplace=True`` of a call whose result is used."""
    for keyword in call.keywords:
        is_used = not isinstance(source.parents.get(call), ast.Expr)
        if keyword.arg == "inplace" and source.code(keyword.value) == "True" and is_used:
            yield "inplace=False", put(source, keyword.value, "False")


def _of_call(source: SourceText, statement: ast.stmt, call: ast.Call) -> Iterator[tuple[str, Changes]]:
    """``x.relu_()`` becomes ``x = x.relu()``; ``y = x.relu_()`` becomes ``y = x = x.relu()``."""
    parent = source.parents.get(call)
    while isinstance(parent, ast.Attribute) and isinstance(source.parents.get(parent), ast.Call):
        call = source.parents[parent]  # type: ignore[assignment]
        parent = source.parents.get(call)
    written, text = _out_of_place(source, call)
    if isinstance(written, ast.Attribute) and written.attr == "data":
        written, text = written.value, text.replace(".data.", ".", 1)
    if not isinstance(written, (ast.Name, ast.Attribute)) or not _writes(call):
        return
    name = source.code(written)
    is_alone = isinstance(parent, ast.Expr)
    targets = [source.code(one) for one in statement.targets] if isinstance(statement, ast.Assign) else []
    title = f"{called_name(call).rstrip('_')} out of place"
    if text and is_alone and _may_be_rebound(source, statement, written):
        yield title, put(source, call, f"{name} = {text}")
    elif text and name in targets and parent is statement:
        yield title, put(source, call, text)
    elif text and not is_alone:
        if parent is statement and isinstance(statement, ast.Assign) and _may_be_rebound(source, statement, written):
            yield title, put(source, call, f"{name} = {text}")
        elif not _is_read_after(source, statement, name):
            yield title, put(source, call, text)
    if is_alone and _may_be_rebound(source, statement, written):
        yield f"write into a copy of {name}", before(source, statement, f"{name} = {name}.clone()")


def _writes(call: ast.expr) -> bool:
    """Whether a method of a chain, or a function, works in place by its name."""
    while isinstance(call, ast.Call):
        if called_name(call).endswith("_") and not called_name(call).endswith("__"):
            return True
        call = call.func.value if isinstance(call.func, ast.Attribute) else call.func
    return False


def _is_read_after(source: SourceText, statement: ast.stmt, name: str) -> bool:
    return any(
        isinstance(node, (ast.Name, ast.Attribute))
        and source.code(node) == name
        and node.lineno > (statement.end_lineno or 0)
        for node in inside(source.function(statement))
    )


def _out_of_place(source: SourceText, call: ast.expr) -> tuple[ast.expr | None, str]:
    """What a chain of methods writes, and the chain out of place; no text where a method has no such form."""
    if not isinstance(call, ast.Call):
        return call, source.code(call)
    method = method_call(call)
    if method is None:
        return None, ""
    head = source.span(method)[1]
    outer = source.text[head : source.span(call)[1]]
    if source.code(method.value) in (source.imported("torch"), source.imported("torch.nn.functional")):
        if not method.attr.endswith("_") or not call.args:
            return None, ""
        return call.args[0], f"{source.code(method)[:-1]}{outer}"
    written, text = _out_of_place(source, method.value)
    name = method.attr
    if name == "zero_" and source.imported("torch"):
        return written, f"{source.imported('torch')}.zeros_like({text})" if text else ""
    if name in _ONLY_IN_PLACE:
        return written, ""
    name = name[:-1] if name.endswith("_") and not name.endswith("__") else name
    return written, f"{text}.{name}{outer}" if text else ""


def without_grad(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A write into a leaf is made under ``no_grad``."""
    for at in cause_nodes(answer, sources, ("write",)):
        torch = at.source.imported("torch")
        if torch and _is_update(answer, at.statement):
            changes = wrap(at.source, [at.statement], f"with {torch}.no_grad():")
            if changes:
                yield Edit(f"write under {torch}.no_grad()", at.file, changes)


def copied_when_made(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """What a call saved of its own result stays as it was: the program goes on with a copy, ``h = sigmoid(x).clone()``.

    The values are the same everywhere; it is for writes that a view or another name makes.
    """
    if "(result of " not in answer.text or ", and so into " not in answer.text:
        return
    for at in cause_nodes(answer, sources, ("saved",)):
        source, statement = at.source, at.statement
        value = statement.value if isinstance(statement, ast.Assign) else None
        calls = [node for node in at.nodes if node is value and isinstance(node, ast.Call)]
        if len(calls) == 1:
            changes = put(source, calls[0], f"{source.code(calls[0])}.clone()")
            yield Edit("write into a copy of what was saved", at.file, changes)


def returned(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A hook returns the changed gradient and leaves the one that it was given: ``return grad * 0.1``."""
    for at in cause_nodes(answer, sources, ("write",)):
        source, statement = at.source, at.statement
        for node in ast.walk(statement):
            if isinstance(node, ast.Lambda) and isinstance(node.body, ast.Call) and _writes(node.body):
                _, text = _out_of_place(source, node.body)
                if text:
                    yield Edit("return a changed gradient of its own", at.file, put(source, node.body, text))
        if source.block(statement)[-1] is not statement:
            continue
        if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            operator = _OPERATORS.get(type(statement.op))
            if operator:
                value = source.operand(statement.value)
                text = f"return {statement.target.id} {operator} {value}"
                yield Edit("return the changed gradient", at.file, put(source, statement, text))
        if isinstance(statement, ast.Expr):
            method = method_call(statement.value)
            if (
                method is not None
                and method.attr.endswith("_")
                and method.attr not in (*_ONLY_IN_PLACE, "zero_")
                and isinstance(statement.value, ast.Call)
            ):
                outer = source.text[source.span(method)[1] : source.span(statement.value)[1]]
                text = f"return {source.code(method)[:-1]}{outer}"
                yield Edit("return the changed gradient", at.file, put(source, statement, text))


def put_back(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """An update that only a loop's variable gets is written into the tensor: ``w = w - d`` becomes ``w -= d``."""
    for at in cause_nodes(answer, sources):
        source, statement = at.source, at.statement
        if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
            continue
        target, value = statement.targets[0], statement.value
        if isinstance(value, ast.BinOp) and type(value.op) in _OPERATORS and source.code(value.left) == target.id:
            start = source.span(statement)[0]

            operator = _OPERATORS[type(value.op)]
            head = SpanChange(start, source.span(value.right)[0], f"{target.id} {operator}= ")
            if source.text[source.span(value.right)[0] - 1] == "(":
                head = SpanChange(start, source.span(value.right)[0], f"{target.id} {operator}= (")
            yield Edit("write into the tensor", at.file, (head,))


def replaced_in_place(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """``w = w.clamp(0, 1).detach().requires_grad_()`` becomes a write into the leaf that the optimizer holds."""
    for at in cause_nodes(answer, sources, ("made",)):
        source, statement, torch = at.source, at.statement, at.source.imported("torch")
        value = getattr(statement, "value", None)
        if not (isinstance(statement, ast.Assign) and isinstance(value, ast.Call) and torch):
            continue
        name, kept = source.code(statement.targets[0]), value
        while isinstance(kept, ast.Call) and (method := method_call(kept, "detach", "requires_grad_", "clone")):
            kept = method.value  # type: ignore[assignment]
        if not any(source.code(node) == name for node in ast.walk(kept) if isinstance(node, ast.expr)):
            continue
        inner = source.indent(statement) + source.indent_unit
        text = f"with {torch}.no_grad():\n{inner}{name}.copy_({source.code(kept)})"
        if source.has_own_lines(statement):
            yield Edit(f"write into {name}, which the optimizer holds", at.file, put(source, statement, text))

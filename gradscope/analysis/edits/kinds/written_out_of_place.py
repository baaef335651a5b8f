"""A write in place is made out of place, or writes into a copy."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.analysis.edits.cause_nodes import CauseNodes, called_name, cause_nodes, method_call
from gradscope.analysis.edits.edit_model import Change, Edit, EditSources
from gradscope.analysis.edits.source_text import SourceText
from gradscope.analysis.edits.span_changes import Changes, before, put, wrap
from gradscope.analysis.report_model import Answer

_OPERATORS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**", ast.MatMult: "@", ast.Mod: "%",
    ast.FloorDiv: "//", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^",
}  # fmt: skip
_ONLY_IN_PLACE = {"zero_": "zeros_like", "fill_": "", "copy_": "", "requires_grad_": "", "set_": "", "resize_": ""}


def edits(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """Out of place where there is such a form, else into a copy."""
    for at in cause_nodes(answer, sources, ("write",)):
        for title, changes in _of_write(at):
            if changes:
                yield Edit(title, at.file, changes)


def _of_write(at: CauseNodes) -> Iterator[tuple[str, Changes]]:
    source, statement = at.source, at.statement
    if isinstance(statement, ast.AugAssign):
        yield from _augmented(source, statement)
    elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
        yield from _into_copy(source, statement, statement.targets[0].value)
    for node in at.nodes:
        if isinstance(node, ast.Call):
            yield from _of_call(source, statement, node)


def _augmented(source: SourceText, statement: ast.AugAssign) -> Iterator[tuple[str, Changes]]:
    target, operator = statement.target, _OPERATORS.get(type(statement.op))
    if isinstance(target, ast.Subscript):
        yield from _into_copy(source, statement, target.value)
        return
    if operator is None:
        return
    name = source.code(target)
    value = source.code(statement.value)
    if isinstance(statement.value, (ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Lambda, ast.UnaryOp)):
        value = f"({value})"
    yield f"{operator}= out of place", put(source, statement, f"{name} = {name} {operator} {value}")


def _into_copy(source: SourceText, statement: ast.stmt, written: ast.expr) -> Iterator[tuple[str, Changes]]:
    while isinstance(written, ast.Subscript):
        written = written.value
    if isinstance(written, (ast.Name, ast.Attribute)):
        name = source.code(written)
        yield f"write into a copy of {name}", before(source, statement, f"{name} = {name}.clone()")


def _of_call(source: SourceText, statement: ast.stmt, call: ast.Call) -> Iterator[tuple[str, Changes]]:
    for keyword in call.keywords:
        if keyword.arg == "inplace" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True:
            yield "inplace=False", put(source, keyword.value, "False")
    method = method_call(call)
    if method is not None and method.attr.endswith("_") and not method.attr.endswith("__"):
        name = source.code(method.value)
        plain = isinstance(method.value, (ast.Name, ast.Attribute)) and not name.endswith((".data", ".grad"))
        is_alone = isinstance(statement, ast.Expr) and statement.value is call
        text = source.code(call)
        outer = source.text[source.span(call)[0] + len(source.code(method)) : source.span(call)[1]]
        if method.attr not in _ONLY_IN_PLACE:
            out_of_place = f"{name}.{method.attr[:-1]}{outer}"
            if is_alone and plain:
                yield f"{method.attr[:-1]} in place of {method.attr}", put(source, call, f"{name} = {out_of_place}")
            elif not is_alone:
                yield f"{method.attr[:-1]} in place of {method.attr}", put(source, call, out_of_place)
        elif method.attr == "zero_" and is_alone and plain:
            torch = source.imported("torch")
            if torch:
                yield "new zeros in place of zero_", put(source, call, f"{name} = {torch}.zeros_like({name})")
        if plain and is_alone and text:
            yield f"write into a copy of {name}", before(source, statement, f"{name} = {name}.clone()")
    elif called_name(call).endswith("_") and call.args and isinstance(call.func, ast.Attribute):
        first = call.args[0]
        if isinstance(first, (ast.Name, ast.Attribute)) and isinstance(statement, ast.Expr):
            name, function = source.code(first), source.code(call.func)[:-1]
            outer = source.text[source.span(call.func)[1] : source.span(call)[1]]
            yield (
                f"{called_name(call)[:-1]} in place of {called_name(call)}",
                put(source, call, f"{name} = {function}{outer}"),
            )


def without_grad(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A write into a leaf is made under ``no_grad``."""
    for at in cause_nodes(answer, sources, ("write",)):
        torch = at.source.imported("torch")
        if torch:
            changes = wrap(at.source, [at.statement], f"with {torch}.no_grad():")
            if changes:
                yield Edit(f"write under {torch}.no_grad()", at.file, changes)


def returned(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A hook returns the changed gradient and leaves the one that it was given: ``return grad * 0.1``."""
    for at in cause_nodes(answer, sources, ("write",)):
        source, statement = at.source, at.statement
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
                and method.attr not in _ONLY_IN_PLACE
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
            head = Change(start, source.span(value.right)[0], f"{target.id} {operator}= ")
            if source.text[source.span(value.right)[0] - 1] == "(":
                head = Change(start, source.span(value.right)[0], f"{target.id} {operator}= (")
            yield Edit("write into the tensor", at.file, (head,))
        elif isinstance(value, ast.Call):
            yield Edit(
                "write into the tensor", at.file, put(source, statement, f"{target.id}.copy_({source.code(value)})")
            )

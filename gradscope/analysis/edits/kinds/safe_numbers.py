"""Where a gradient is NaN or infinite: the branch not taken is given a safe input, a root is kept off its pole."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.analysis.edits.cause_nodes import called_name, cause_nodes, inside, method_call
from gradscope.analysis.edits.edit_model import Edit, EditSources
from gradscope.analysis.edits.source_text import SourceText
from gradscope.analysis.edits.span_changes import put
from gradscope.analysis.report_model import Answer

_EPS = "1e-12"
_AT_ONE = ("acos", "asin", "arccos", "arcsin", "atanh", "arctanh")
_BELOW_ONE = "1 - 1e-6"
"""The nearest to a pole at 1 and -1 that float32 tells from it by far."""
_AT_ZERO = ("sqrt", "log", "rsqrt", "log2", "log10", "reciprocal", "pow")


def edits(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """A safe inner branch of ``where``; the lowest number in place of minus infinity; an eps inside a root; a clamp."""
    for at in cause_nodes(answer, sources):
        source = at.source
        for node in at.nodes:
            given = _input_of(source, node)
            if given is None:
                continue
            yield from _inside_where(at.file, source, node, given)
        yield from _lowest_number(at.file, source, at.statement)
        for node in at.nodes:
            given = _input_of(source, node)
            if given is not None and called_name(node) in ("sqrt", "log", "rsqrt"):
                yield Edit("keep it off zero", at.file, put(source, given, _added(source, node, given)))
            elif given is not None and called_name(node) in _AT_ONE:
                text = f"{source.operand(given)}.clamp(-({_BELOW_ONE}), {_BELOW_ONE})"
                yield Edit("keep it off 1 and -1", at.file, put(source, given, text))


def _added(source: SourceText, node: ast.expr, given: ast.expr) -> str:
    method = method_call(node)
    text = f"{source.code(given)} + {_EPS}"
    return f"({text})" if method is not None and method.value is given else text


def _input_of(source: SourceText, node: ast.expr) -> ast.expr | None:
    """What a function is computed of that has a pole or a root at zero; of a quotient, the divisor."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return node.right
    if called_name(node) not in (*_AT_ZERO, *_AT_ONE) or not isinstance(node, ast.Call):
        return None
    method = method_call(node)
    is_function = method is None or source.code(method.value) == source.imported("torch")
    if is_function:
        return node.args[0] if node.args else None
    return method.value if method is not None else None


def _inside_where(file: str, source: SourceText, node: ast.expr, given: ast.expr) -> Iterator[Edit]:
    torch = source.imported("torch")
    inner: ast.AST = node
    for outer in source.around(node):
        if called_name(outer) == "where" and isinstance(outer, ast.Call) and len(outer.args) == 3 and torch:
            condition = source.code(outer.args[0])
            code = source.code(given)
            safe = f"{torch}.ones_like({code})"
            if inner is outer.args[1]:
                text = f"{torch}.where({condition}, {code}, {safe})"
            elif inner is outer.args[2]:
                text = f"{torch}.where({condition}, {safe}, {code})"
            else:
                return
            yield Edit("give the branch that is not taken a safe input", file, put(source, given, text))
            return
        if isinstance(outer, ast.stmt):
            return
        inner = outer


def _lowest_number(file: str, source: SourceText, statement: ast.stmt) -> Iterator[Edit]:
    torch = source.imported("torch")
    for node in inside(statement):
        method = method_call(node, "masked_fill", "masked_fill_")
        if method is None or not torch or not isinstance(node, ast.Call) or len(node.args) != 2:
            continue
        if source.code(node.args[1]).replace("'", '"').replace(" ", "") in (
            'float("-inf")',
            "-math.inf",
            "-torch.inf",
            '-float("inf")',
        ):
            text = f"{torch}.finfo({source.operand(method.value)}.dtype).min"
            yield Edit("the lowest number in place of minus infinity", file, put(source, node.args[1], text))

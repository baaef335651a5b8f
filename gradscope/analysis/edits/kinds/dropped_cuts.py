"""What takes values out of autograd on the way to the loss is dropped: ``.item()``, ``torch.tensor(…)``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from gradscope.analysis.edits.cause_nodes import CauseNodes, called_name, cause_nodes, inside, method_call
from gradscope.analysis.edits.edit_model import Edit, EditSources, SpanChange
from gradscope.analysis.edits.source_text import SourceText
from gradscope.analysis.edits.span_changes import Changes, keep_only, move_behind, put, unwrap
from gradscope.analysis.report_model import Answer

_CUTS = ("detach", "item", "numpy", "tolist")
_ON_THE_WAY = ("cpu", "clone")
"""Methods that are dropped with a cut that follows them, or stands inside."""
_NUMBERS = ("float", "int")
_NEW = ("tensor", "as_tensor", "Tensor", "FloatTensor", "from_numpy", "asarray")
_MODES = ("no_grad", "inference_mode")
_LOSS = re.compile(r"loss|entropy|criterion|mse|div", re.IGNORECASE)
_OF_MATH = ("exp", "log", "sqrt", "sin", "cos", "tan", "tanh", "log1p", "expm1", "erf")


def edits(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """Each cut dropped."""
    found: dict[str, list[Edit]] = {}
    for at in cause_nodes(answer, sources):
        if at.cause.role not in ("cut", "made", "set", "used"):
            continue
        for title, changes in _of_cause(at):
            edit = Edit(title, at.file, changes)
            if changes and edit not in found.get(at.file, []):
                found.setdefault(at.file, []).append(edit)
    for several in found.values():
        yield from several


def _of_cause(at: CauseNodes) -> Iterator[tuple[str, Changes]]:
    source = at.source
    nodes = at.nodes if len(at.cause.columns) == 2 else tuple(_outermost_cuts(at))
    any_found = False
    for node in nodes:
        for title, changes in _dropped(source, _whole_cut(source, node)):
            any_found = True
            yield title, changes
    if not any_found and at.cause.role == "cut":
        yield from _without_mode(source, at.statement)


def _outermost_cuts(at: CauseNodes) -> Iterator[ast.expr]:
    for node in at.nodes:
        if called_name(node) in (*_CUTS, *_NUMBERS, *_NEW) or (isinstance(node, ast.Attribute) and node.attr == "data"):
            yield node


def _whole_cut(source: SourceText, node: ast.expr) -> ast.expr:
    """A cut with the cuts around it: of ``x.detach().cpu().numpy()`` all, whichever is named."""
    while True:
        parent = source.parents.get(node)
        outer = source.parents.get(parent) if isinstance(parent, ast.Attribute) else None
        if isinstance(outer, ast.Call) and method_call(outer, *_CUTS, *_ON_THE_WAY) is parent and not outer.args:
            node = outer
        elif (isinstance(parent, ast.Attribute) and parent.attr == "data") or (
            isinstance(parent, ast.Call) and called_name(parent) in (*_NUMBERS, *_NEW) and parent.args[:1] == [node]
        ):
            node = parent
        else:
            return node


def _peeled(node: ast.expr) -> ast.expr:
    """What a cut cuts."""
    while True:
        method = method_call(node, *_CUTS, *_ON_THE_WAY, "requires_grad_")
        if method is not None:
            node = method.value
        elif isinstance(node, ast.Attribute) and node.attr == "data":
            node = node.value
        elif isinstance(node, ast.Call) and called_name(node) in _NUMBERS and len(node.args) == 1 and not node.keywords:
            node = node.args[0]
        else:
            return node


def _dropped(source: SourceText, node: ast.expr) -> Iterator[tuple[str, Changes]]:
    if isinstance(node, ast.Call) and called_name(node) in _NEW and len(node.args) == 1:
        yield from _tensor_of_values(source, node)
        return
    if _is_on_purpose(source, node):
        return
    kept = _peeled(node)
    if kept is node:
        if isinstance(node, ast.Call) and _is_of(source, node, "math") and called_name(node) in _OF_MATH:
            torch = source.imported("torch")
            if torch:
                yield (
                    f"{torch}.{called_name(node)} in place of math.{called_name(node)}",
                    put(source, node.func, f"{torch}.{called_name(node)}"),
                )
        return
    what = source.code(node)[len(source.code(kept)) :] if source.code(node).startswith(source.code(kept)) else ""
    title = f"drop {what}" if what and "\n" not in what else f"leave {_short(source.code(kept))} in autograd"
    parent = source.parents.get(node)
    changes = keep_only(source, node, kept)
    if isinstance(parent, ast.Call) and any(_is_of(source, parent, module) for module in ("numpy", "math")):
        if called_name(parent) not in _OF_MATH:
            return
        torch = source.imported("torch")
        if not torch:
            return
        changes = (*put(source, parent.func, f"{torch}.{called_name(parent)}"), *changes)
        title = f"{torch}.{called_name(parent)} of the tensor itself"
    yield title, changes


def _is_on_purpose(source: SourceText, node: ast.expr) -> bool:
    """Whether a ``detach()`` is of a kind that people write: of the target of a loss, of ``x + (y - x).detach()``."""
    if called_name(node) != "detach":
        return False
    parent = source.parents.get(node)
    if isinstance(parent, ast.keyword):
        return parent.arg == "target"
    is_target = isinstance(parent, ast.Call) and node in parent.args[1:]
    if is_target and isinstance(parent, ast.Call) and _LOSS.search(called_name(parent)):
        return True
    is_difference = isinstance(_peeled(node), ast.BinOp) and isinstance(_peeled(node).op, ast.Sub)  # type: ignore[attr-defined]
    return is_difference and isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Add)


def _tensor_of_values(source: SourceText, call: ast.Call) -> Iterator[tuple[str, Changes]]:
    """``torch.tensor([a, b])`` becomes ``torch.stack([a, b])``, ``torch.tensor(x.item())`` becomes ``x``."""
    (values,) = call.args
    torch = source.imported("torch")
    rest = [keyword for keyword in call.keywords if keyword.arg in ("dtype", "device")]
    if len(rest) + sum(keyword.arg == "requires_grad" for keyword in call.keywords) != len(call.keywords):
        return
    tail = f".to({', '.join(f'{one.arg}={source.code(one.value)}' for one in rest)})" if rest else ""
    kept = _peeled(values)
    parts = (
        values.elts
        if isinstance(values, (ast.List, ast.Tuple))
        else [values.elt]
        if isinstance(values, (ast.ListComp, ast.GeneratorExp))
        else None
    )
    if parts is None and not (isinstance(kept, ast.Name) and kept is values):
        code = (
            source.operand(kept)
            if tail or isinstance(source.parents.get(call), (ast.BinOp, ast.UnaryOp, ast.Attribute))
            else source.code(kept)
        )
        yield f"take {_short(source.code(kept))} itself", put(source, call, f"{code}{tail}")
        return
    if not torch:
        return
    if parts is None:
        yield (
            f"{torch}.stack in place of {torch}.tensor",
            put(source, call, f"{torch}.stack({source.code(kept)}){tail}"),
        )
        yield f"take {_short(source.code(kept))} itself", put(source, call, source.code(kept) + tail)
        return
    stacked = _stacked(source, values, torch)
    if stacked:
        yield f"{torch}.stack in place of {torch}.{called_name(call)}", put(source, call, f"{stacked}{tail}")


def _stacked(source: SourceText, values: ast.expr, torch: str) -> str:
    """``[a.item(), b]`` as ``torch.stack([a, b])``, lists of lists row by row; empty where all are numbers."""
    parts: list[ast.expr] = getattr(values, "elts", [])
    if isinstance(values, (ast.ListComp, ast.GeneratorExp)):
        parts = [values.elt]
    if all(isinstance(part, ast.Constant) for part in parts):
        return ""
    start, end = source.span(values)
    inner, rest = "", start
    for part in parts:
        first, last = source.span(part)
        inner += source.text[rest:first]
        rest = last
        if isinstance(part, (ast.List, ast.Tuple)):
            row = _stacked(source, part, torch)
            if not row:
                return ""
            inner += row
        elif isinstance(part, ast.Constant):
            inner += f"{torch}.tensor({source.code(part)})"
        else:
            inner += source.code(_peeled(part))
    return f"{torch}.stack({inner}{source.text[rest:end]})"


def _without_mode(source: SourceText, statement: ast.stmt) -> Iterator[tuple[str, Changes]]:
    """The ``with torch.no_grad():`` or the decorator around a statement is dropped."""
    for one in (statement, *source.around(statement)):
        if isinstance(one, ast.With) and len(one.items) == 1 and called_name(one.items[0].context_expr) in _MODES:
            mode = source.code(one.items[0].context_expr)
            yields = [part for part in one.body if any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in inside(part))]
            if not yields:
                yield f"no {mode} here", unwrap(source, one)
            elif yields == one.body[-1:] and len(one.body) > 1:
                yield f"hand over behind {mode}, not inside", move_behind(source, one.body[-1], one)
            return
        if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for decorator in one.decorator_list:
                name = called_name(decorator) or getattr(decorator, "attr", "")
                if name in _MODES:
                    start, end = source.line_start(decorator.lineno), source.line_start((decorator.end_lineno or 0) + 1)
                    yield f"no @{source.code(decorator)} on {one.name}", (SpanChange(start, end, ""),)
            return


def _is_of(source: SourceText, call: ast.Call, module: str) -> bool:
    name = source.imported(module)
    return isinstance(call.func, ast.Attribute) and bool(name) and source.code(call.func.value) == name


def _short(code: str) -> str:
    return " ".join(code.split()) if len(code) < 40 else f"{' '.join(code.split())[:36]} …"

"""Whether numbers that left torch at one call may be what another call built a tensor of, as the source tells."""

from __future__ import annotations

import ast

from gradscope.analysis.index import Index
from gradscope.frames.statements import parse_source

_PLAIN = (ast.Constant, ast.Name, ast.Attribute, ast.Tuple, ast.List, ast.UnaryOp, ast.unaryop, ast.expr_context)


def may_hold(index: Index, built: int, export: int) -> bool:
    """Whether what a call built may hold values that left torch at another.

    Not where a call of the same function is given nothing but numbers and names (``torch.full((n,), self.real)``), and
    the statement at which the values left has none of these names.

    Args:
        index: The recording.
        built: The call (an op) that built a tensor.
        export: The call that took values out of torch.
    """
    names = _names_given(index.span_source(built, exact=True))
    here, there = (index.statements[index.op_statement[op]] for op in (built, export))
    if names is None or (here.file, here.function) != (there.file, there.function):
        return True
    source = parse_source(index.recording.files[there.file].text).statements
    seen = {name for one in source if one.line == there.line for name in (*one.loads, *one.stores)}
    return any(name == other or name.startswith(f"{other}.") for name in names for other in seen)


def _names_given(source: str) -> set[str] | None:
    """The names among the arguments of a call; None where there is more than names and numbers, or it is not known."""
    try:
        call = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError):
        return None
    if not isinstance(call, ast.Call) or any(isinstance(node, ast.Call) for node in ast.walk(call.func)):
        return None
    given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg not in ("dtype", "device"))]
    if not all(isinstance(node, _PLAIN) for part in given for node in ast.walk(part)):
        return None
    parts = [node for part in given for node in ast.walk(part) if isinstance(node, (ast.Name, ast.Attribute))]
    return {ast.unparse(part) for part in parts}

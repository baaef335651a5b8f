"""Statements whose one call computes an update that nothing takes: ``torch.add(total, x)``, ``self.norm(h)``.

Calls are also made to time them, to warm up, or to see whether they raise: what stands in such places is left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import as_written

_IN_PLACE = re.compile(
    r"add|sub|subtract|mul|multiply|div|divide|true_divide|addcmul|addcdiv|lerp|clamp|clip|clamp_min|clamp_max|relu"
    r"|sigmoid|tanh|exp|log|sqrt|abs|neg|pow|square|round|floor|fmod|remainder|masked_fill|masked_scatter|index_add"
    r"|index_copy|index_fill|scatter|scatter_add|nan_to_num|renorm|fill|triu|tril|detach"
)
"""Functions that have a twin with an underscore, which writes into its first argument."""
_OTHERS = re.compile(
    r"normalize|relu6|leaky_relu|elu|celu|selu|gelu|silu|mish|hardtanh|softplus|softmax|log_softmax|dropout|dropout2d"
    r"|dropout3d|alpha_dropout|layer_norm|group_norm|rms_norm|threshold|pad"
)
_METHODS = re.compile(
    r"(add|sub|mul|div|addcmul|addcdiv|lerp|index_add|index_copy|index_fill|scatter|scatter_add|relu)"
)
_OUTER = (ast.For, ast.AsyncFor, ast.While)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_MODES = frozenset(("no_grad", "enable_grad", "set_grad_enabled", "inference_mode", "autocast", "device"))
_TRIES = re.compile(
    r"time|perf_counter(_ns)?|(auto)?timeit|timer|monotonic|process_time|time_ns|synchroni[sz]e|.*bench.*|.*profil.*"
    r"|warm_?up|elapsed.*|(max_)?memory_allocated|cuda_?graph|capture_begin|(assert_?)?raises",
    re.IGNORECASE,
)
"""Names around calls that are made for what they cost, or for whether they raise."""


class DroppedUpdate(NamedTuple):
    """One such statement."""

    place: tuple[int, int, int, int]
    """Of the call: the first line and column, and the last ones; columns in UTF-8 bytes."""
    end_line: int
    function: str
    """As the source has it: ``torch.add``, ``self.total.add``."""
    name: str
    """What is called: ``add``."""
    owner: str
    """The tensor that would be updated, as the source has it."""
    is_loops: bool
    """Whether the owner is what a loop goes through: another value under its name would be lost as well."""
    takes_one_call: bool
    """Whether no other part of the statement makes a call or computes anything."""

    @property
    def in_place(self) -> str:
        """The method that writes into the owner; empty where there is none."""
        return f"{self.owner}.{self.name}_(…)" if _IN_PLACE.fullmatch(self.name) else ""


@lru_cache(maxsize=16)
def dropped_updates(text: str) -> tuple[DroppedUpdate, ...]:
    """Those in loops or functions of a file, where nothing around them tries the call only."""
    return tuple(
        found
        for statement, call, around in _bare_calls(text)
        if (found := _update(statement, call, around)) is not None and not _is_tried(statement, around)
    )


@lru_cache(maxsize=16)
def dropped_layers(text: str) -> dict[tuple[int, int], tuple[str, str]]:
    """What a statement in a function calls with one value, and the value, by its first and last line: ``self.norm(h)``.

    Nothing but the call, where nothing around tries it only; what is called may be a layer.
    """
    found = {}
    for statement, call, around in _bare_calls(text):
        is_within = any(isinstance(one, _DEFINITIONS) for one in around)
        if is_within and len(call.args) == 1 and not call.keywords and not _is_tried(statement, around):
            layer, value = call.func, call.args[0]
            if isinstance(layer, (ast.Name, ast.Attribute, ast.Subscript)) and isinstance(value, ast.Name):
                found[statement.lineno, statement.end_lineno or statement.lineno] = ast.unparse(layer), value.id
    return found


def _bare_calls(text: str) -> Iterator[tuple[ast.Expr, ast.Call, tuple[ast.stmt, ...]]]:
    """The statements of a file that are nothing but a call, and what is around each."""
    tree = as_written(text)
    return _in_block(tree.body, ()) if tree is not None else iter(())


def _in_block(
    body: list[ast.stmt], around: tuple[ast.stmt, ...]
) -> Iterator[tuple[ast.Expr, ast.Call, tuple[ast.stmt, ...]]]:
    for statement in body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            yield statement, statement.value, around
            continue
        for name in ("body", "orelse", "finalbody"):
            yield from _in_block(getattr(statement, name, []), (*around, statement))
        for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            yield from _in_block(part.body, (*around, statement))


def _update(statement: ast.Expr, call: ast.Call, around: tuple[ast.stmt, ...]) -> DroppedUpdate | None:
    called, name = call.func, ast.unparse(call.func).rpartition(".")[2]
    if isinstance(called, ast.Attribute) and _METHODS.fullmatch(name) and not _is_torchs(called.value):
        owner: ast.expr | None = called.value
    elif isinstance(called, (ast.Name, ast.Attribute)) and (_IN_PLACE.fullmatch(name) or _OTHERS.fullmatch(name)):
        if isinstance(called, ast.Attribute) and not _is_torchs(called.value):
            return None
        named = next((one.value for one in call.keywords if one.arg == "input"), None)
        owner = call.args[0] if call.args else named
    else:
        return None
    writes = any(one.arg is None or one.arg in ("out", "inplace") for one in call.keywords)
    if writes or not isinstance(owner, (ast.Name, ast.Attribute, ast.Subscript)):
        return None
    loops = [one for one in around if isinstance(one, (ast.For, ast.AsyncFor))]
    return DroppedUpdate(
        (call.lineno, call.col_offset, call.end_lineno or call.lineno, call.end_col_offset or 0),
        statement.end_lineno or statement.lineno,
        ast.unparse(called),
        name,
        ast.unparse(owner),
        any(ast.unparse(owner) in _names(one.target) for one in loops),
        not any(isinstance(one, (ast.Call, ast.BinOp, ast.UnaryOp)) for one in ast.walk(call) if one is not call),
    )


def _is_torchs(value: ast.expr) -> bool:
    """Whether an expression is a module of functions: ``torch``, ``F``, ``torch.nn.functional``."""
    return ast.unparse(value).rpartition(".")[2] in ("torch", "F", "functional")


def _is_tried(statement: ast.Expr, around: tuple[ast.stmt, ...]) -> bool:
    """Whether the call may be made for its own sake; always so at the top level, where what it gives may be shown."""
    inner = around[max((n for n, one in enumerate(around) if isinstance(one, _DEFINITIONS)), default=0) :]
    if not any(isinstance(one, (*_OUTER, *_DEFINITIONS)) for one in around):
        return True
    if any(isinstance(one, ast.Try) or _is_other_context(one) for one in inner):
        return True
    names = [one.name for one in around if isinstance(one, _DEFINITIONS)]
    if any(name.startswith(("test", "time", "warm")) for name in names):
        return True
    if any(_TRIES.fullmatch(name) for name in (*names, *_names(inner[0]))):
        return True
    loop = next((one for one in reversed(inner) if isinstance(one, _OUTER)), None)
    block = loop if loop is not None else inner[0]
    if isinstance(loop, (ast.For, ast.AsyncFor)) and _names(loop.target) & _names(statement):
        return False
    return all(_is_bare(one) for one in block.body)  # type: ignore[attr-defined]  # the kinds above have one


def _is_other_context(statement: ast.stmt) -> bool:
    """Whether a ``with`` does more than set a mode: it may count, time, or wait for what is raised."""
    if not isinstance(statement, (ast.With, ast.AsyncWith)):
        return False
    called = (one.context_expr for one in statement.items)
    names = [ast.unparse(one.func if isinstance(one, ast.Call) else one).rpartition(".")[2] for one in called]
    return any(name not in _MODES for name in names)


def _is_bare(statement: ast.stmt) -> bool:
    """Whether a statement is an expression only, or says nothing."""
    return isinstance(statement, (ast.Expr, ast.Pass, ast.Return)) and not (
        isinstance(statement, ast.Return) and statement.value is not None
    )


def _names(node: ast.AST) -> set[str]:
    """All names and attributes in a part of the tree."""
    walked = list(ast.walk(node))
    names = {one.id for one in walked if isinstance(one, ast.Name)}
    return names | {one.attr for one in walked if isinstance(one, ast.Attribute)}

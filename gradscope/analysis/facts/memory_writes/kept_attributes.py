"""Tensors that the ctx of a custom Function has as plain attributes: ``ctx.x = x``, with no version to compare."""

from __future__ import annotations

import ast
from functools import cached_property

from gradscope.analysis.facts.derivatives.function_sources import FunctionSources, Lines, WrittenBackward, attribute_of
from gradscope.analysis.facts.events import Events
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import own_parts

_CTX = "ctx."
_FORM = frozenset(
    {"shape", "size", "dtype", "device", "dim", "ndim", "numel", "requires_grad", "type", "get_device", "is_cuda"}
    | {"new_zeros", "new_ones", "new_empty", "element_size", "layout", "names", "is_sparse"}
)
"""Attributes that say nothing of the values."""
_LIKE = frozenset(("zeros_like", "ones_like", "empty_like", "rand_like", "randn_like", "full_like", "len", "type"))


class KeptAttributes:
    """Which rows of ``saved`` are such attributes, and which of these are read."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._read: dict[tuple[int, int], bool] = {}

    def is_one(self, row: int) -> bool:
        """Whether a row is an attribute of a ctx."""
        return self._index.recording.saved.column("attr")[row] in self._texts

    def is_made_before(self, row: int, op: int) -> bool:
        """Whether the node of a row, first seen at an op, was there before: it gave the op an input.

        ``h += f(h)``: no name holds what the Function returned.
        """
        saved, index = self._index.recording.saved, self._index
        if not self.is_one(row):
            return False
        node, changes = saved.column("node")[row], index.recording.changes
        is_given = any(changes[at].after == node for at in index.changes.of(op))
        return not is_given and all(index.recording.tensors.column("node")[made] != node for made in index.made.of(op))

    def is_read_by_backward(self, row: int) -> bool:
        """Whether the Function's backward, as its source has it, reads the values of the attribute and writes none."""
        saved, nodes = self._index.recording.saved[row], self._index.recording.nodes
        key = (nodes.column("name")[saved.node], saved.attr)
        if key not in self._read:
            backward = self._functions.of_node(saved.node)
            attr = self._index.recording.text(saved.attr).removeprefix(_CTX)
            self._read[key] = backward is not None and _reads(backward, attr)
        return self._read[key]

    def line(self, row: int) -> Lines | None:
        """The line of the Function's forward that sets the attribute; None where the source has none, or several."""
        saved = self._index.recording.saved[row]
        backward = self._functions.of_node(saved.node)
        forward = backward.forward if backward is not None else None
        if backward is None or forward is None or not forward.args.args:
            return None
        attr, context = self._index.recording.text(saved.attr).removeprefix(_CTX), forward.args.args[0].arg
        sets = [
            part
            for part in own_parts(forward)
            if isinstance(part, ast.Assign)
            and any(attribute_of(target, context) == attr for target, _ in _assigned(part))
        ]
        if len(sets) != 1:
            return None
        return backward.lines_of(sets[0])._replace(function=f"{backward.function.rpartition('.')[0]}.forward")

    @cached_property
    def _texts(self) -> frozenset[int]:
        strings = self._index.recording.strings
        return frozenset(number for number, text in enumerate(strings) if text.startswith(_CTX))

    @cached_property
    def _functions(self) -> FunctionSources:
        return FunctionSources(self._index, Events(self._index))


def _reads(backward: WrittenBackward, attr: str) -> bool:
    definition = backward.definition
    parts, arguments = list(own_parts(definition)), definition.args.args
    if not arguments:
        return False
    context = arguments[0].arg
    parents = {child: part for part in parts for child in ast.iter_child_nodes(part)}
    names = {
        target.id
        for part in parts
        if isinstance(part, ast.Assign)
        for target, value in _assigned(part)
        if isinstance(target, ast.Name) and attribute_of(value, context) == attr
    }
    uses = [
        part
        for part in parts
        if attribute_of(part, context) == attr
        or (isinstance(part, ast.Name) and part.id in names and isinstance(part.ctx, ast.Load))
    ]
    if any(_is_written(part, parents) for part in uses):
        return False
    return any(_is_value(part, parents) for part in uses)


def _assigned(statement: ast.Assign) -> list[tuple[ast.expr, ast.expr]]:
    """The targets of an assignment with what each is given."""
    pairs = []
    for target in statement.targets:
        value = statement.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            pairs += list(zip(target.elts, value.elts, strict=True))
        else:
            pairs.append((target, value))
    return pairs


def _is_written(part: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether the values are set anew there: ``ctx.x.copy_(…)``, ``ctx.x[0] = …``, ``ctx.x.data``, ``ctx.x = …``."""
    around = parents.get(part)
    if not isinstance(getattr(part, "ctx", None), ast.Load):  # (ctx.x = None and del only let go of it)
        return isinstance(around, ast.Assign | ast.AugAssign) and not isinstance(around.value, ast.Constant)
    if isinstance(around, ast.Attribute):
        is_method = around.attr.endswith("_") and not around.attr.endswith("__")
        return is_method or around.attr in ("data", "untyped_storage", "storage")
    return isinstance(around, ast.Subscript) and around.value is part and not isinstance(around.ctx, ast.Load)


def _is_value(part: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    around = parents.get(part)
    if isinstance(around, ast.Tuple) and isinstance(parents.get(around), ast.Assign):
        return False  # the names are looked at
    if not isinstance(getattr(part, "ctx", None), ast.Load):
        return False
    if isinstance(around, ast.Attribute):
        return around.attr not in _FORM
    if isinstance(around, ast.Call):
        func = around.func
        return (func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")) not in _LIKE
    return not isinstance(around, ast.Assign | ast.Compare | ast.If | ast.Expr)

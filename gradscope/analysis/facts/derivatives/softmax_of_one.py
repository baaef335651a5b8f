"""Softmax, a norm or a division by the own length over one value: the result is 1, -1 or 0, and the derivative 0,
whatever goes in.

That of a norm comes out as what rounding leaves of zero, which the normalisation makes hundreds of times larger.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache

from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import parsed
from gradscope.recording.flags import BELOW

NORM_NODES = ("NativeLayerNormBackward0", "NativeGroupNormBackward0")
NODES = ("SoftmaxBackward0", "LogSoftmaxBackward0", *NORM_NODES)
"""Names of the nodes that may be of one."""

LENGTHS = frozenset(("F.normalize", "F.cosine_similarity", "torch.cosine_similarity"))
"""Calls that divide by the length of what they are given: several nodes, each of which leads to that alone."""

_FUNCTIONS = frozenset(("softmax", "log_softmax", "softmin"))
_MODULES = frozenset(("Softmax", "LogSoftmax", "Softmin"))
NORM, OF_GROUPS = "F.layer_norm", "F.group_norm"
_OF_ONE_SIZE = ("float32", "float64")
"""What a norm keeps its means in as well; of half precision they may be larger."""
_LOSSES = frozenset(("F.cross_entropy",))


def is_of_one(index: Index, op: int) -> bool:
    """Whether an op that made such a node went over a dimension of size 1, where shape and text say so for certain.

    The dimension is a number in the call or, where the call is a module's, the same number in all such modules that
    the program's files make. Cross entropy goes over the classes, which come second.
    """
    if index.func(op) == NORM:
        taken = index.uses.of(op)
        is_weight_of_one = len(taken) > 1 and _sizes(index, taken[1], op) == ["1"]  # (it has the shape that it is over)
        return is_weight_of_one or _has_a_mean_for_each(index, op)
    if index.func(op) == OF_GROUPS:
        return _has_a_mean_for_each(index, op)
    if index.func(op) in _LOSSES:
        taken = index.uses.of(op)
        return bool(taken) and _sizes(index, taken[0], op)[1:2] == ["1"]
    is_length = index.func(op) in LENGTHS
    tensors = index.uses.of(op) if is_length else index.tensors_made(op)  # (a similarity has that dimension no more)
    sizes = _sizes(index, tensors[0], op) if tensors else []
    dimension = (_dimension_of_length if is_length else _dimension)(index, op) if "1" in sizes else None
    return dimension is not None and -len(sizes) <= dimension < len(sizes) and sizes[dimension] == "1"


def _has_a_mean_for_each(index: Index, op: int) -> bool:
    """Whether a norm keeps as many means as it was given values."""
    taken, nodes = index.uses.of(op), [index.node_after(one) for one in index.tensors_made(op)]
    if not taken or not nodes or nodes[0] < 0:
        return False
    layout = index.recording.layouts[index.layout_at(taken[0], op)]
    rows = (index.recording.saved[row] for row in index.saved.of(nodes[0]))
    means = [row.nbytes for row in rows if index.recording.text(row.attr) == "result1"]
    return index.recording.text(layout.dtype) in _OF_ONE_SIZE and means == [layout.nbytes]


def _sizes(index: Index, tensor: int, op: int) -> list[str]:
    recording = index.recording
    shape = recording.text(recording.layouts[index.layout_at(tensor, op)].shape)
    return [size.strip() for size in shape.strip("()").split(",") if size.strip()]


def _dimension(index: Index, op: int) -> int | None:
    if index.recording.ops.column("flags")[op] & BELOW:
        texts = (file.text for file in index.recording.files if file.is_user)
        numbers = {number for text in texts for number in _of_modules(text)}
        return numbers.pop() if len(numbers) == 1 else None
    call = parsed(index.span_source(op, exact=True))
    node = call.body[0].value if call is not None and call.body and isinstance(call.body[0], ast.Expr) else None
    if not isinstance(node, ast.Call) or _name(node) not in _FUNCTIONS:
        return None
    is_method = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) not in _NAMESPACES
    return _number(node, 0 if is_method else 1)


def _dimension_of_length(index: Index, op: int) -> int | None:
    """That of a call with its dimension as third argument, 1 where it has none; of a module's nothing is known."""
    call = parsed(index.span_source(op, exact=True))
    node = call.body[0].value if call is not None and call.body and isinstance(call.body[0], ast.Expr) else None
    if not isinstance(node, ast.Call) or f"F.{_name(node)}" not in LENGTHS:
        return None
    has_any = len(node.args) > _THIRD or any(one.arg is None or one.arg == "dim" for one in node.keywords)
    is_spread = any(isinstance(one, ast.Starred) for one in node.args)
    return _number(node, _THIRD) if has_any else None if is_spread else 1


_THIRD = 2
_NAMESPACES = frozenset(("torch", "F", "functional", "nn.functional", "torch.nn.functional"))


@lru_cache(maxsize=16)
def _of_modules(text: str) -> tuple[int | None, ...]:
    return tuple(_made(text))


def _made(text: str) -> Iterator[int | None]:
    tree = parsed(text)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Call) and _name(node) in _MODULES:
            yield _number(node, 0)


def _name(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _number(call: ast.Call, position: int) -> int | None:
    """The number that a call is given as its dimension, by name or by place."""
    named = [keyword.value for keyword in call.keywords if keyword.arg in ("dim", "axis")]
    given = named or call.args[position : position + 1]
    try:
        value = ast.literal_eval(given[0]) if given else None
    except ValueError:
        return None
    return value if type(value) is int else None

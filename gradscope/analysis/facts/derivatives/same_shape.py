"""A weight on its way into a product: what calls make of it element by element, and what they combine it with."""

from __future__ import annotations

import re

from gradscope.analysis.index import Index
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import OpKind

_MOST = 512
"""Tensors looked at: what goes on for longer is no formula for a weight."""
_PRODUCT = re.compile(
    r".*\.(_*(r?matmul|linear|mm|bmm|mv|dot|inner|addmm|addmv|addbmm|baddbmm|einsum|tensordot|bilinear)_*"
    r"|conv(_transpose)?[123]d|convolution|lstm(_cell)?|gru(_cell)?|rnn_\w+|multi_head_attention_forward)"
)


def met_at_its_shape(index: Index, tensor: int, before: int) -> set[int]:
    """Tensors of its shape that calls before an op were given beside it, beside what they made of it, or to make that.

    A product of matrices gives another shape, and there the way ends. A call that takes many tensors to do the same
    with each of them combines none.
    """
    made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
    shapes = {_shape(index, tensor)}
    seen, waiting = {tensor}, [tensor]
    while waiting and len(seen) < _MOST:
        one = waiting.pop()
        calls = [op for op in index.users.of(one) if op < before]
        if not flags[one] & EXTERNAL and made_at[one] < before:
            calls.append(made_at[one])
        for op in calls:
            if made := _made_alone(index, op, shapes):
                near = {*made, *(given for given in index.uses.of(op) if _shape(index, given) in shapes)}
                waiting += near - seen
                seen |= near
    return seen - {tensor}


def goes_into_a_product(index: Index, tensor: int, before: int) -> bool:
    """Whether a product of matrices before an op took it, or what calls made of it at its shape or turned about."""
    shape = _shape(index, tensor)
    shapes = {shape, f"({', '.join(reversed(shape.strip('()').split(', ')))})"}
    seen, waiting = {tensor}, [tensor]
    while waiting and len(seen) < _MOST:
        one = waiting.pop()
        for op in (op for op in index.users.of(one) if op < before):
            if _PRODUCT.fullmatch(index.func(op)):
                return True
            near = _made_alone(index, op, shapes) - seen
            waiting += near
            seen |= near
    return False


def _made_alone(index: Index, op: int, shapes: set[str]) -> set[int]:
    """The one tensor of such a shape that a single call made."""
    made = {new for new in index.tensors_made(op) if _shape(index, new) in shapes}
    is_single = index.recording.ops.column("kind")[op] == OpKind.CALL and "_foreach_" not in index.func(op)
    return made if is_single and len(made) == 1 else set()


def _shape(index: Index, tensor: int) -> str:
    recording = index.recording
    return recording.text(recording.layouts[recording.tensors.column("layout")[tensor]].shape)

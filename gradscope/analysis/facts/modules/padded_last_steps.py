"""The last step of padded sequences, taken of what unpacking gave: padding, where a sequence is shorter than others.

That some are shorter is known by the shapes: what was packed has fewer steps than the padded sequences have places.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.shapes import shape_of
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import parsed

_UNPACKS = "nn.utils.pad_packed_sequence"


class PaddedLastStep(NamedTuple):
    """The last one of a statement that takes the last step of all sequences."""

    op: int
    source: str
    """``out[:, -1]``."""
    unpacked: int
    """The op that gave the padded sequences."""
    tensor: int
    steps: int
    """Of all sequences together."""
    sequences: int
    longest: int


def padded_last_steps(index: Index, passes: Passes) -> Iterator[PaddedLastStep]:
    """Those of which passes started."""
    found: dict[int, PaddedLastStep] = {}
    for unpacked in index.calls_of(_UNPACKS.__eq__):
        taken = list(index.uses.of(unpacked))
        steps, longest = (shape_of(index, one)[:1] for one in taken[:2]) if len(taken) > 1 else ((), ())
        for tensor in index.tensors_made(unpacked) if steps and longest else ():
            sizes = shape_of(index, tensor)[:2]
            if len(sizes) < 2 or sizes.count(longest[0]) != 1 or steps[0] >= sizes[0] * sizes[1]:
                continue
            time = sizes.index(longest[0])
            for op in index.users.of(tensor):
                source = index.span_source(op, exact=True)
                is_last = index.func(op) == "Tensor.__getitem__" and _takes_last(source, time)
                if is_last and _is_walked(index, passes, op):
                    found[index.op_statement[op]] = PaddedLastStep(
                        op, source, unpacked, tensor, steps[0], sizes[1 - time], longest[0]
                    )
    yield from found.values()


def _is_walked(index: Index, passes: Passes, op: int) -> bool:
    nodes = [index.node_after(one) for one in index.tensors_made(op)]
    return any(node >= 0 and passes.first_walked_at[node] >= 0 for node in nodes)


def _takes_last(source: str, dim: int) -> bool:
    """Whether a subscript is ``-1`` along a dimension, and takes all along those before it."""
    tree = parsed(source)
    node = tree.body[0].value if tree is not None and tree.body and isinstance(tree.body[0], ast.Expr) else None
    if not isinstance(node, ast.Subscript):
        return False
    items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    return len(items) > dim and ast.unparse(items[dim]) == "-1" and all(ast.unparse(one) == ":" for one in items[:dim])

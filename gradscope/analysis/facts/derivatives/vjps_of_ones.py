"""Functions whose backward weights a sum of derivatives by what comes in, instead of each derivative before the sum.

``vjp(ones) * grad`` is right where forward goes element by element, or where all of ``grad`` is one number. It is told
where neither holds: the loss makes something uneven of the output, and calls of forward mix the elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import WrittenBackward
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.shapes import shape_of
from gradscope.analysis.index import Index
from gradscope.frames.values.mixed_elements import mixing_call
from gradscope.frames.values.products_with_vjps import ProductWithVjp, product_with_vjp

_HANDS_ON = frozenset(
    f"{name}Backward{number}"
    for name in ("View", "UnsafeView", "ReshapeAlias", "Unsqueeze", "Squeeze", "Clone", "Neg", "Sub", "Add", "ToCopy")
    for number in (0, 1)
)
"""Nodes that give each element of what they are given, or its negative, on to one element."""
_UNEVEN = frozenset(
    f"{name}Backward0"
    for name in (
        *("Pow", "Exp", "Log", "Tanh", "Sigmoid", "Sin", "Cos", "Softplus", "Softmax", "LogSoftmax"),
        *("MseLoss", "SmoothL1Loss", "HuberLoss", "BinaryCrossEntropyWithLogits", "LinalgVectorNorm", "Norm"),
    )
)
"""Nodes whose derivative is another one for each element."""
_ALONG = frozenset(
    (
        *("linear", "matmul", "mm", "mv", "bmm"),
        *("cumsum", "cumprod", "logcumsumexp", "softmax", "log_softmax", "fft", "ifft", "rfft"),
        *("solve", "solve_triangular", "cholesky_solve", "conv1d", "conv2d"),
    )
)
"""Calls that mix elements of what they take along a dimension."""
_SOLVES = frozenset(("solve", "solve_triangular", "cholesky_solve"))
_EITHER = frozenset(("matmul", "mv", *_SOLVES))
"""Those that mix a vector as the second that they take, too."""
_DIAGONALS = frozenset(("diag", "diag_embed"))
_FOLLOWED = 200


class VjpOfOnes(NamedTuple):
    """One Function."""

    written: ProductWithVjp
    node: int
    mixes: int
    """The op of forward that mixes elements; NONE where its source alone tells."""
    call: str
    line: int


def vjp_of_ones(index: Index, passes: Passes, written: WrittenBackward, nodes: list[int]) -> VjpOfOnes | None:
    """What is wrong with a Function; None where it is right, or not known to be wrong.

    Args:
        index: The run.
        passes: Which nodes they walked.
        written: The Function.
        nodes: Its nodes that a pass walked.
    """
    found = product_with_vjp(written.definition, written.forward)
    if found is None or written.forward is None:
        return None
    for node in nodes[:_FOLLOWED]:
        output, taken = index.node_tensor[node], [one for one in index.edges.of(node) if one >= 0]
        if output < 0 or len(taken) != 1:
            continue
        variable = index.recording.nodes.column("variable")[taken[0]]
        source = variable if variable >= 0 else index.node_tensor[taken[0]]
        shape = shape_of(index, output)
        # (one number for each row of a batch has as many as the batch: rows that do not mix are right)
        if source < 0 or shape_of(index, source) != shape or not shape or shape[-1] < 2:
            continue
        if not _is_uneven(index, passes, output):
            continue
        ops = sorted(_ops_before(index, source, output))
        op = _mixing_op(index, source, output, ops)
        if op >= 0:
            return VjpOfOnes(found, node, op, index.call_name(op), int(index.op_line(op)))
        if any(source in index.uses.of(one) for one in ops):
            continue  # (what computed it was seen, and there is no need to read it)
        text = index.recording.files[written.file].text
        call = mixing_call(text, written.forward.lineno) if len(shape) == 1 else None
        if call is not None:
            return VjpOfOnes(found, node, -1, call.text, call.line)
    return None


def _is_uneven(index: Index, passes: Passes, output: int) -> bool:
    """Whether a pass came to a tensor through something that has another derivative for each of its elements."""
    nodes_of, names, todo, seen = index.recording.tensors.column("node"), index.recording.nodes, [output], {output}
    shape = shape_of(index, output)
    while todo and len(seen) < _FOLLOWED:
        one = todo.pop()
        for op in index.users.of(one):
            for made in index.tensors_made(op):
                above = nodes_of[made]
                if above < 0 or made in seen or passes.first_walked_at[above] < 0:
                    continue
                seen.add(made)
                name = index.recording.text(names.column("name")[above])
                is_product = name == "MulBackward0" and _is_by_another(index, op, shape)
                if name in _UNEVEN or is_product:
                    return True
                if name in _HANDS_ON:
                    todo.append(made)
    return False


def _is_by_another(index: Index, op: int, shape: tuple[int, ...]) -> bool:
    return len(index.uses.of(op)) == 2 and all(shape_of(index, one) == shape for one in index.uses.of(op))


def _mixing_op(index: Index, source: int, output: int, ops: list[int]) -> int:
    """An op on the way from a tensor to another that mixes elements of the first for certain; -1 where none does."""
    shape = shape_of(index, output)
    alike, depends = {source}, {source}
    for op in ops:
        taken, made = list(index.uses.of(op)), [*index.tensors_made(op), *index.results.of(op)]
        if depends.isdisjoint(taken):
            continue
        name = _last_word(index, op)
        places = 2 if name in _SOLVES or (name in _EITHER and len(shape) == 1) else 1
        if name in _ALONG and not alike.isdisjoint(taken[:places]) and _is_wide(index, name, taken):
            return op
        if name in _SOLVES and _is_system(index, shape, taken, depends):
            return op
        depends.update(made)
        if not alike.isdisjoint(taken) and all(shape_of(index, one) in (shape, ()) for one in (*taken, *made)):
            alike.update(made)
    return -1


def _last_word(index: Index, op: int) -> str:
    return index.func(op).rpartition(".")[2].strip("_")


def _is_wide(index: Index, name: str, taken: list[int]) -> bool:
    """Whether a call mixes more than one element: the kernel of a convolution may have but one."""
    return not name.startswith("conv") or (len(taken) > 1 and shape_of(index, taken[1])[-1:] > (1,))


def _is_system(index: Index, shape: tuple[int, ...], taken: list[int], depends: set[int]) -> bool:
    """Whether a system of as many equations as a vector has elements is solved, whose matrix depends on the vector."""
    if len(shape) != 1 or not taken or taken[0] not in depends or shape_of(index, taken[0]) != (*shape, *shape):
        return False
    made = index.made_by(taken[0])
    return 0 <= made < index.op_count and _last_word(index, made) not in _DIAGONALS


def _ops_before(index: Index, source: int, output: int) -> Iterator[int]:
    """The ops that a tensor was made by, one from another, as far as another one of its inputs."""
    todo, seen = [output], {output}
    while todo and len(seen) < _FOLLOWED:
        op = index.made_by(todo.pop())
        if not 0 <= op < index.op_count:
            continue
        yield op
        rest = [one for one in index.uses.of(op) if one not in seen and one != source]
        seen.update(rest)
        todo += rest

"""Complex values written into real memory, or cast to a real dtype: the imaginary part is dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, RAISED
from gradscope.recording.rows import Field

_WRITES = frozenset(("Tensor.__setitem__", "Tensor.copy_"))
_LIKE = ("_like", "Tensor.clone", "torch.where", "Tensor.neg", "Tensor.flatten", "Tensor.reshape")
_CASTS = frozenset(("Tensor.to", "Tensor.float", "Tensor.double", "Tensor.half", "Tensor.type"))
_MODULE_CASTS = frozenset(("nn.Module.to", "nn.Module.type"))
_PARTS = {
    "Tensor.real.__get__": "real",
    "torch.real": "real",
    "Tensor.imag.__get__": "imaginary",
    "torch.imag": "imaginary",
}
_CONJUGATES = ("conj", "adjoint", "vdot", "eig", "mH", "H.__get__")
_INVERSE = ("ifft", "ihfft")
_PRODUCTS = frozenset(("mul", "multiply", "mul_", "matmul", "bmm", "mm", "mv", "einsum", "div", "div_"))
_STEPS_BACK = 6
"""Calls from a cast back within which a conjugate or an inverse transform is looked for."""


def _find(sources: Sources) -> Iterator[Finding]:
    yield from _find_writes(sources)
    yield from _find_casts(sources)
    yield from _find_module_casts(sources)
    yield from _find_parts_taken(sources)


def _find_writes(sources: Sources) -> Iterator[Finding]:
    """One finding for each line, about the last write that it made."""
    index, flags = sources.index, sources.index.recording.ops.column("flags")
    last: dict[int, tuple[int, int, int]] = {}
    for op in index.calls_of(_WRITES.__contains__):
        if flags[op] & RAISED:
            continue
        tensors = index.uses.of(op)
        if len(tensors) > 1 and not _is_complex(sources, tensors[0], op) and _is_complex(sources, tensors[-1], op):
            last[index.op_statement[op]] = op, tensors[0], tensors[-1]
    for op, written, source in last.values():
        whole = written
        while (base := sources.sharing.base_of(whole)) >= 0:
            whole = base
        made = sources.made_at(whole)
        where = f", which line {made[0].line} made" if made else ""
        first = sources.made_at(_alike(sources, whole))
        if made and first and first[0].line != made[0].line:
            made, where = [*first, *made], f"{where} alike to what line {first[0].line} made"
        name = sources.names.at(whole, op)
        yield sources.finding(
            f"Line {index.op_line(op)}: {index.call_name(op)} wrote complex values into {name}{where} with the dtype "
            f"{_dtype(sources, written, op)}: their imaginary part is dropped, and gets no gradient",
            op=op,
            tensors=[whole, source],
            causes=[*made, *sources.cause("write", op)],
            advice=f"Make {name} with the complex dtype, or write .real where the real part is meant.",
        )


def _alike(sources: Sources, tensor: int) -> int:
    """The tensor that gave a real one its dtype, by ``empty_like`` and the like, or by views; itself where none did."""
    index = sources.index
    made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
    while not flags[tensor] & EXTERNAL and made_at[tensor] < index.op_count:
        made = made_at[tensor]
        function = index.func(made)
        is_view = sources.sharing.base_of(tensor) >= 0
        taken = [one for one in index.uses.of(made) if _dtype(sources, one, made) == _dtype(sources, tensor, made + 1)]
        if not taken or not (is_view or function.endswith(_LIKE) or ".new_" in function):
            break
        tensor = taken[0]
    return tensor


def _find_casts(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that casts complex values with a graph to a real dtype, about its last cast."""
    index, flags = sources.index, sources.index.recording.ops.column("flags")
    last: dict[int, tuple[int, int]] = {}
    for op in index.calls_of(_CASTS.__contains__):
        if flags[op] & RAISED:
            continue
        taken, made = index.uses.of(op), index.tensors_made(op)
        if not taken or not made or not index.requires_grad(taken[0], op):
            continue
        is_made_real = _is_complex(sources, taken[0], op) and not _is_complex(sources, made[0], op)
        if is_made_real and not _is_real_in_effect(sources, taken[0], op):
            last[index.op_statement[op]] = op, taken[0]
    for op, source in last.values():
        made = index.tensors_made(op)
        yield sources.finding(
            f"Line {index.op_line(op)}: {index.call_name(op)} casts complex values to {_dtype(sources, made[0], op)}: "
            "their imaginary part is dropped, and gets no gradient",
            op=op,
            tensors=[source],
            causes=sources.cause("cut", op),
            advice="Go on with the complex values, or say what is meant with .real or .abs().",
        )


def _find_module_casts(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that casts modules with complex parameters or buffers to a real dtype."""
    index = sources.index
    casts = ((op, _made_real(sources, op)) for op in index.calls_of(_MODULE_CASTS.__contains__))
    last = {index.op_statement[op]: (op, tensors) for op, tensors in casts if tensors}
    for op, tensors in last.values():
        names = sources.listed([sources.names.at(one, op + 1) for one in tensors])
        verb = "is" if len(tensors) == 1 else "are"
        yield sources.finding(
            f"Line {index.op_line(op)}: {index.call_name(op)} casts {names}, which {verb} complex, to "
            f"{_dtype(sources, tensors[0], op + 1)}: the imaginary part is dropped",
            op=op,
            tensors=tensors,
            causes=sources.cause("write", op),
            advice="Give it the device only; float(), double() and half() leave complex values as they are.",
        )


def _find_parts_taken(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that takes one part of complex leaves of which nothing else reached a loss."""
    index = sources.index
    nodes, walked = index.recording.tensors.column("node"), sources.passes.first_walked_at
    found: dict[int, tuple[int, list[int]]] = {}
    for leaf in dict.fromkeys(leaf for look in sources.looks for leaf in look.gradients):
        if not _is_complex(sources, leaf, index.op_count):
            continue
        taken = [
            op
            for op in index.users.of(leaf)
            if any(nodes[one] >= 0 and walked[nodes[one]] >= 0 for one in index.tensors_made(op))
        ]
        parts = {_PARTS.get(index.func(op), "") for op in taken}
        if len(parts) == 1 and "" not in parts:
            found.setdefault(index.op_statement[taken[-1]], (taken[-1], []))[1].append(leaf)
    for op, leaves in found.values():
        part = _PARTS[index.func(op)]
        other = "imaginary" if part == "real" else "real"
        names = sources.listed([sources.names.of(leaf) for leaf in leaves])
        many = len(leaves) > 1
        yield sources.finding(
            f"Line {index.op_line(op)}: of {names}, which {'are' if many else 'is'} complex, the {part} part is all "
            f"that is used: the {other} part gets no gradient",
            op=op,
            tensors=leaves,
            causes=sources.cause("cut", op),
            advice="Go on with the complex values, or make it a real parameter where one part is meant.",
        )


def _made_real(sources: Sources, op: int) -> list[int]:
    """What a call for a whole module made real: parameters stay the tensors that they are, buffers are replaced.

    A buffer that was replaced is gone when the call is over; what has its shape then came in its place.
    """
    index, recording = sources.index, sources.index.recording
    changes = (recording.changes[row] for row in index.changes.of(op))
    changed = dict.fromkeys(one.tensor for one in changes if one.field == Field.LAYOUT)
    found = [one for one in changed if _is_complex(sources, one, op) and not _is_complex(sources, one, op + 1)]
    gone = (one for one, died in enumerate(recording.tensors.column("died")) if died == op + 1)
    shapes = Counter(_shape(sources, one, op) for one in gone if _is_complex(sources, one, op))
    for one in index.tensors_made(op):
        if shapes[_shape(sources, one, op + 1)] and not _is_complex(sources, one, op + 1):
            shapes[_shape(sources, one, op + 1)] -= 1
            found.append(one)
    return found


def _is_real_in_effect(sources: Sources, tensor: int, op: int) -> bool:
    """Whether complex values may be real but for rounding: of an inverse transform, or a product with a conjugate."""
    return _has_behind(sources, tensor, op, _CONJUGATES, _STEPS_BACK) or _is_transformed_back(sources, tensor, op, 0)


def _has_behind(sources: Sources, tensor: int, op: int, words: tuple[str, ...], steps: int) -> bool:
    """Whether one of the last calls behind complex values has a word in its name, or is not known."""
    made, taken = _made_from(sources, tensor, op)
    if made < 0 or any(word in sources.index.func(made) for word in words):
        return True
    return steps > 0 and any(_has_behind(sources, one, made, words, steps - 1) for one in taken)


def _is_transformed_back(sources: Sources, tensor: int, op: int, depth: int) -> bool:
    """Whether complex values are of an inverse transform; of a product all factors."""
    made, taken = _made_from(sources, tensor, op)
    function = sources.index.func(made) if made >= 0 else ""
    if made < 0 or any(word in function for word in _INVERSE):
        return True
    decides = all if function.rpartition(".")[2] in _PRODUCTS and len(taken) > 1 else any
    return depth < _STEPS_BACK and decides([_is_transformed_back(sources, one, made, depth + 1) for one in taken])


def _made_from(sources: Sources, tensor: int, op: int) -> tuple[int, list[int]]:
    """The call that made complex values before another, NONE where that is not known, and the complex ones it took."""
    index = sources.index
    made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
    made = made_at[tensor]
    if flags[tensor] & EXTERNAL or made >= op:
        return NONE, []
    return made, [one for one in dict.fromkeys(index.uses.of(made)) if _is_complex(sources, one, made)]


def _dtype(sources: Sources, tensor: int, op: int) -> str:
    recording = sources.index.recording
    return recording.text(recording.layouts[sources.index.layout_at(tensor, op)].dtype)


def _shape(sources: Sources, tensor: int, op: int) -> str:
    recording = sources.index.recording
    return recording.text(recording.layouts[sources.index.layout_at(tensor, op)].shape)


def _is_complex(sources: Sources, tensor: int, op: int) -> bool:
    return _dtype(sources, tensor, op).startswith("complex")


DIAGNOSIS = Diagnosis(
    code="imaginary-part-lost",
    title="complex values were made real ones",
    severity="warning",
    explanation=Explanation(
        meaning="""A complex tensor was written into a real one, by copy_ or an assignment to a part of it, or one with
            a graph was cast to a real dtype; or a module was, with complex parameters or buffers in it.""",
        reason="""torch casts what is written to the dtype of the memory that it is written into. Of a complex number
            the real part is left, in the values and in what flows back; torch warns once a process, and goes on. A
            module's to(dtype) casts complex parameters and buffers too; its float() and half() leave them.""",
        remedy="""Make the tensor with a complex dtype (torch.zeros(n, dtype=spectrum.dtype)). Where the real part is
            what was meant, write x.real: that says so, and torch does not warn.""",
    ),
    example=Example(
        shows="""\
import torch

gain = torch.ones(3, dtype=torch.complex64, requires_grad=True)
full = torch.zeros(5)
full[:3] = gain
""",
        instead_of="full = torch.zeros(5)",
        silent="full = torch.zeros(5, dtype=gain.dtype)",
    ),
    find=_find,
)

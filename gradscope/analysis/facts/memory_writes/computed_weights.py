"""Weights that a module computes from its parameters whenever it needs them, and what is written into them.

``torch.nn.utils.parametrize`` computes ``layer.weight`` at each access; the older ``weight_norm`` and ``prune`` do at
each call of the layer, and keep what they computed as an attribute until then.
"""

from __future__ import annotations

import re
from functools import cached_property

from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.frames.names.given_names import function_around
from gradscope.frames.without_effect.writes_to_temporaries import temporaries_written
from gradscope.recording import NONE
from gradscope.recording.flags import BELOW, GROUP_OP, PARAMETER
from gradscope.recording.rows import BindingKind

_READ = "nn.Module._wrapped_call_impl"
"""How the call into torch's Python is called that computes a parametrized attribute as it is read."""
_ATTRIBUTE = re.compile(r"(?:[^()]|\(\))*\.\w+|getattr\(.*\)", re.DOTALL)
"""The source of a call that is none in the text: an attribute is read."""
_KEPT = re.compile(
    r"nn\.utils\.(WeightNorm\.apply|(l1|random)_(un)?structured|ln_structured|custom_from_mask|identity"
    r"|global_unstructured|\w+(Unstructured|Structured|FromMask|PruningMethod|Identity)\.apply|spectral_norm)"
)
"""Calls after which a module has its computed weight as an attribute, until its next call."""
_AGAIN = "torch._weight_norm"
"""What the older ``weight_norm`` calls at each call of the layer."""
_HOOKED = frozenset(("Tensor.mul", "Tensor.div"))
"""By what pruning (a mask) and the older ``spectral_norm`` (a norm) compute one at each call of the layer."""
_REGISTERS = "nn.utils.register_parametrization"
_LOOKS = re.compile(r"Tensor\.(data\.__[gs]et__|detach|view|view_as|t|T\.__get__|numel|size|dim|shape\.__get__)")
"""What reads none of the values."""


class ComputedWeights:
    """Which writes were into computed weights, and lost."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def source(self, op: int, tensor: int) -> int:
        """A parameter that a tensor was computed from, if an op wrote into it in vain; else NONE.

        Nothing read the tensor after the write, while the parameter was read again.
        """
        index, storages = self._index, self._index.recording.storages
        on = index.recording.tensors.column("storage")
        storage = on[tensor]
        if storage < 0 or storages.column("external")[storage]:
            return NONE
        made = storages.column("op")[storage]
        if made >= op:
            return NONE
        behind = self._parameters(made) if self._computes(made) else self._given_to_own(made, op, storage)
        source = next(
            (use for use in behind if on[use] != storage and any(later > op for later in index.users.of(use))), NONE
        )
        if source < 0 or self._is_done_to(behind, made, op):
            return NONE
        return source if not self._is_read(storage, op) and not self._is_named(storage, op) else NONE

    def name(self, tensor: int) -> str:
        """A variable that what a tensor shares its memory with was seen in; empty where none was."""
        on = self._on.get(self._index.recording.tensors.column("storage")[tensor], ())
        return min((name for one in on for name in self._names.get(one, ())), key=len, default="")

    def _is_done_to(self, parameters: list[int], made: int, op: int) -> bool:
        """Whether the function of a write does the same to what the weight is computed from, before that is read."""
        index, on = self._index, self._index.recording.tensors.column("storage")
        storages, func, function = {on[one] for one in parameters}, index.func(op), index.op_place(op).function
        read = min(
            (at for one in parameters for at in index.users.of(one) if at > op and self._is_below(at)), default=op
        )
        return any(
            made < at < read and on[tensor] in storages and index.func(at) == func
            for at, tensor in self._written
            if at < index.op_count and index.op_place(at).function == function
        )

    def _is_below(self, op: int) -> bool:
        return bool(self._index.recording.ops.column("flags")[op] & BELOW)

    def _parameters(self, op: int) -> list[int]:
        flags = self._index.recording.tensors.column("flags")
        return [use for use in self._index.uses.of(op) if flags[use] & PARAMETER]

    def _computes(self, made: int) -> bool:
        """Whether an op of torch's own Python gave what a module computes from its parameters."""
        index, ops = self._index, self._index.recording.ops
        func = index.func(made)
        if ops.column("kind")[made] == GROUP_OP:
            is_read = func == _READ and _ATTRIBUTE.fullmatch(index.span_source(made, exact=True)) is not None
            return is_read or _KEPT.fullmatch(func) is not None
        if not self._is_below(made):
            return False
        return func == _AGAIN or (func in _HOOKED and any(use in self._hooked for use in index.uses.of(made)))

    def _given_to_own(self, made: int, op: int, storage: int) -> list[int]:
        """The parameters that a parametrization of the program's own computed from, as the write's statement read it.

        Its ``forward`` is the program's code: it ran right before the write, which stands in another function, and what
        it gave was gone right after that.
        """
        index, died = self._index, self._index.recording.storages.column("died")
        where, function = index.statements[index.op_statement[op]], index.op_place(made).function
        is_own = bool(self._registered) and function.endswith(".forward") and function != index.op_place(op).function
        if not is_own or not op < died[storage] <= op + 1 or any(not self._looks(at) for at in range(made + 1, op)):
            return []
        if where.line not in temporaries_written(index.recording.files[where.file].text):
            return []
        first = made
        while first > 0 and index.op_place(first - 1).function == function:
            first -= 1
        return [use for at in range(first, made + 1) for use in index.uses.of(at) if use in self._registered]

    @cached_property
    def _hooked(self) -> frozenset[int]:
        """The parameters that a module computes its weight from at each call since a call of ``_KEPT``."""
        calls = self._index.calls_of(lambda func: _KEPT.fullmatch(func) is not None)
        return frozenset(use for op in calls for use in self._parameters(op))

    @cached_property
    def _registered(self) -> frozenset[int]:
        """The parameters for which a parametrization was registered."""
        calls = self._index.calls_of(lambda func: func == _REGISTERS)
        return frozenset(use for op in calls for use in self._index.uses.of(op))

    def _looks(self, op: int) -> bool:
        """Whether an op reads no values."""
        return _LOOKS.fullmatch(self._index.method(op)) is not None

    def _is_read(self, storage: int, op: int) -> bool:
        """Whether any call after an op took what is on a storage, other than to write it or to look at its form."""
        index = self._index
        return any(
            later > op and (later, tensor) not in self._written and not self._looks(later)
            for tensor in self._on.get(storage, ())
            for later in index.users.of(tensor)
        )

    def _is_named(self, storage: int, op: int) -> bool:
        """Whether a name of what is on a storage stands below the write in its function: ``print`` makes no op."""
        recording, where = self._index.recording, self._index.statements[self._index.op_statement[op]]
        names = {name for tensor in self._on.get(storage, ()) for name in self._names.get(tensor, ())}
        if not names:
            return False
        text = recording.files[where.file].text
        _, last = function_around(text, where.line)
        below = "\n".join(text.split("\n")[where.end_line : last])
        return any(re.search(rf"(?<![\w.]){re.escape(name)}\b", below) for name in names)

    @cached_property
    def _names(self) -> dict[int, set[str]]:
        """The variables in which each tensor was seen."""
        found: dict[int, set[str]] = {}
        for row in self._index.recording.bindings:
            if row.kind != BindingKind.MEMBER:
                found.setdefault(row.tensor, set()).add(self._index.recording.text(row.name))
        return found

    @cached_property
    def _written(self) -> frozenset[tuple[int, int]]:
        """Ops with the tensors that they wrote."""
        return frozenset((op, tensor) for op, tensor, _, _ in all_writes(self._index))

    @cached_property
    def _on(self) -> dict[int, list[int]]:
        """The tensors on each storage, as they were first seen."""
        found: dict[int, list[int]] = {}
        for tensor, storage in enumerate(self._index.recording.tensors.column("storage")):
            found.setdefault(storage, []).append(tensor)
        return found

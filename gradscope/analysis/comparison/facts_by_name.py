"""What one recording says about each name at the end of the run, and about the run as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gradscope.analysis.comparison.comparison_model import Unit, Value
from gradscope.analysis.facts.memory_use import MemoryUse
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.program.states_after import State, StatesAfter
from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.index import Index
from gradscope.recording import NONE, Recording
from gradscope.recording.rows import Field, GradOutcome, TensorFlag

_RECEIVED = (GradOutcome.CREATED, GradOutcome.ACCUMULATED)
RECEIVED, NO_GRADIENT = "received", "None"
"""A gradient whose value was not recorded; no gradient."""
_MODULE = "<module>"
_IN = " in "


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that is measured of a name, or of the run."""

    code: str
    group: str
    label: str
    unit: Unit = ""


OF_NAMES = (
    Fact("requires_grad", "autograd", "requires_grad"),
    Fact("is_leaf", "autograd", "is_leaf"),
    Fact("grad_fn", "autograd", "grad_fn"),
    Fact("grad", "autograd", "grad"),
    Fact("memory", "storage", "memory"),
    Fact("version_counter", "storage", "version counter"),
    Fact("version", "storage", "version"),
    Fact("offset", "storage", "offset"),
    Fact("saved", "memory", "saved", "bytes"),
    Fact("kept", "memory", "keeps for backward", "bytes"),
    Fact("allocated", "memory", "allocated", "bytes"),
    Fact("shape", "form", "shape"),
    Fact("dtype", "form", "dtype"),
)
OF_RUNS = (
    Fact("total_saved", "memory", "saved in all", "bytes"),
    Fact("peak", "memory", "live peak", "bytes"),
    Fact("ops", "run", "ops"),
    Fact("nodes", "run", "graph nodes"),
    Fact("leaves_with_gradient", "run", "leaves with a gradient"),
)


def is_local(name: str) -> bool:
    """Whether a name of :attr:`Facts.tensor_of` is a function's: ``hidden in forward``."""
    return _IN in name


class Facts:
    """Facts of one recording, each computed when it is asked for.

    Args:
        recording: The run.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._index = Index(recording)
        self._names = BestNames(self._index)
        self._sharing = StorageGroups(self._index, self._names)
        self._passes = Passes(self._index)
        self.tensor_of, self._further = self._last_tensor_by_name()
        """The tensor that each name held last."""
        self._states = StatesAfter(self._index, {*self.tensor_of.values(), *self._further.values()})

    def _last_tensor_by_name(self) -> tuple[dict[str, int], dict[str, int]]:
        """Names of the module as they are, local ones with their function: ``hidden in forward``.

        Apart from them the further ways of the module to a tensor that has a better name.
        """
        recording = self._recording
        bindings, text = recording.bindings, recording.text
        functions = recording.spans.column("function")
        columns = (bindings.column(name) for name in ("op", "name", "tensor", "span"))
        found: dict[str, int] = {}
        further: dict[str, int] = {}
        local: dict[str, tuple[str, int]] = {}
        in_order = sorted(
            zip(*columns, strict=True), key=lambda row: row[0]
        )  # (some are written once a statement is over)
        for _, name_id, tensor, span in in_order:
            name = text(name_id)
            function = _MODULE if span == NONE else text(functions[span])
            if ("." in name or "[" in name) and self._names.of(tensor) != name:
                if function == _MODULE:
                    further[name] = tensor
                continue
            if function == _MODULE:
                found[name] = tensor
            else:
                local[f"{name}{_IN}{function}"] = (name, tensor)
        for qualified, (name, tensor) in local.items():
            if found.get(name) != tensor:
                found[qualified] = tensor
        return found, further

    def name_as(self, names: Iterable[str]) -> None:
        """Count as names those further ways that are names in another run: ``b.weight``, where here ``b is a``."""
        for name in names:
            if name in self._further:
                self.tensor_of.setdefault(name, self._further[name])

    def of_name(self, name: str, order: dict[str, int]) -> dict[str, Value]:
        """Every fact about a name.

        Args:
            name: One that this recording has.
            order: All names that are compared, in the order of the rows: memory is told by the first on it.
        """
        tensor, end = self.tensor_of[name], self._index.op_count
        state = self._states.after(tensor, end)
        layout = self._recording.layouts[state.layout]
        facts: dict[str, Value] = {
            "requires_grad": state.requires_grad,
            "is_leaf": state.is_leaf,
            "grad_fn": self._node_name(state.node),
            "grad": self._grad(tensor),
            "version": state.version if state.version is not None else "none",
            "offset": state.offset,
            "saved": self._saved_by(state.node),
            "kept": self._kept_behind(tensor),
            "allocated": self._allocated(tensor, state),
            "shape": self._recording.text(layout.shape),
            "dtype": self._recording.text(layout.dtype),
        }
        return facts | self._relations(name, tensor, state, order)

    def _node_name(self, node: int) -> str:
        return self._recording.text(self._recording.nodes[node].name) if node >= 0 else "None"

    def _relations(self, name: str, tensor: int, state: State, order: dict[str, int]) -> dict[str, Value]:
        """Which earlier name is on the same memory, and which has the same version counter."""
        memory: str = "own"
        counter: str | None = "own" if state.version is not None else "none"
        for other in sorted((other for other in self.tensor_of if other in order), key=order.__getitem__):
            if other == name:
                break
            twin = self.tensor_of[other]
            if twin == tensor:
                return {"memory": f"is {other}", "version_counter": f"is {other}"}
            known = self._states.after(twin, self._index.op_count)
            if state.storage < 0 or known.storage != state.storage:
                continue
            if memory == "own":
                memory = f"{other}'s"
            if counter == "own" and known.version is not None:
                counter = self._counter(tensor, twin, f"{other}'s")
        return {"memory": memory, "version_counter": counter}

    def _counter(self, tensor: int, twin: int, shared: str) -> str | None:
        """A tensor's version counter, told by one on the same memory; None where the two were not compared."""
        versions = self._sharing.versions
        if versions.of(tensor) == versions.of(twin):
            return shared
        return "own" if versions.is_measured(tensor) and versions.is_measured(twin) else None

    def _saved_by(self, node: int) -> int:
        saved = self._recording.saved.column("nbytes")
        return sum(saved[row] for row in self._index.saved.of(node)) if node >= 0 else 0

    def _kept_behind(self, tensor: int) -> int | None:
        """What the graph behind the root of a backward pass kept for it, each memory block once; None for no root."""
        recording = self._recording
        nodes = [row.node for row in recording.backwards if row.root == tensor and row.node >= 0]
        if not nodes:
            return None
        blocks = {}
        for node in self._passes.behind(nodes[-1]):
            for row in self._index.saved.of(node):
                saved = recording.saved[row]
                storage = recording.storages[saved.storage] if saved.storage >= 0 else None
                blocks[saved.storage if storage else -2 - row] = storage.nbytes if storage else saved.nbytes
        return sum(blocks.values())

    def _allocated(self, tensor: int, state: State) -> int:
        if state.storage < 0 or self._sharing.base_of(tensor) >= 0:
            return 0
        storage = self._recording.storages[state.storage]
        return 0 if storage.external else storage.nbytes

    def _grad(self, tensor: int) -> str:
        """``.grad`` at the end: its value where it was recorded, ``received``, or ``None``."""
        grad, op = NONE, NONE
        for row in self._recording.gradients:
            if row.tensor == tensor and row.outcome in _RECEIVED:
                grad, op = row.grad, row.op
        for change in self._recording.changes:
            if change.tensor == tensor and change.field == Field.GRAD and change.op > op:
                grad, op = change.after, change.op
        if op == NONE or grad == NONE:
            return NO_GRADIENT
        return self._printed(grad, min(op, self._index.op_count - 1)) or RECEIVED

    def _printed(self, tensor: int, since: int) -> str:
        """Its value as it was noted last, by an op from ``since`` on: an older one may not hold any more."""
        texts = [value.text for value in self._recording.values if value.tensor == tensor and value.op >= since]
        return self._recording.text(texts[-1]) if texts else ""

    def of_run(self) -> dict[str, Value]:
        """Every fact about the run as a whole."""
        use = MemoryUse(self._index)
        return {
            "ops": self._index.op_count,
            "nodes": len(self._recording.nodes),
            "total_saved": sum(use.saved),
            "peak": max(use.live, default=0),
            "leaves_with_gradient": len(set(self._leaves_with_gradient())),
        }

    def _leaves_with_gradient(self) -> Iterator[int]:
        flags = self._recording.tensors.column("flags")
        for row in self._recording.gradients:
            if row.outcome in _RECEIVED and flags[row.tensor] & TensorFlag.LEAF:
                yield row.tensor

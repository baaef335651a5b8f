"""What answers are derived from, and how they speak of a tensor."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from gradscope.analysis.facts.best_names import BestNames
from gradscope.analysis.facts.cuts import Cuts
from gradscope.analysis.facts.flow import Flow
from gradscope.analysis.facts.gradients import Gradients
from gradscope.analysis.facts.passes import Passes
from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Answer, InplaceWrite
from gradscope.analysis.wording import listed
from gradscope.recording.flags import EXTERNAL


@dataclass(eq=False, repr=False)
class Sources:
    """What the answers are derived from."""

    index: Index
    names: BestNames
    cuts: Cuts
    flow: Flow
    gradients: Gradients
    passes: Passes
    writes: tuple[InplaceWrite, ...]
    sharing: StorageGroups

    def listed(self, names: Collection[str]) -> str:
        """Names of tensors in a sentence, shortened only where no other parameter is called so."""
        return listed(names, self.names.of_parameters)

    def answer(
        self, code: str, severity: Literal["problem", "warning", "note"], text: str, op: int, tensor: int
    ) -> Answer:
        """An answer about a tensor, placed at an op."""
        return Answer(code, severity, text, self.index.op_place(op), self.names.of(tensor))

    def made(self, tensor: int) -> str:
        """Where a tensor came from: ``made at line 3 by Tensor.cuda from x``."""
        index = self.index
        op = index.recording.tensors.column("op")[tensor]
        if index.recording.tensors.column("flags")[tensor] & EXTERNAL or op >= index.op_count:
            return "which no call that was seen made"
        taken = dict.fromkeys(self.names.of(use) for use in index.uses.of(op))
        source = f" from {listed(list(taken))}" if taken else ""
        return f"made at line {index.op_line(op)} by {index.call_name(op)}{source}"

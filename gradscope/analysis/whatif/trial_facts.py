"""What one run says: which leaves got gradients, by which names two runs are compared, what was saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import count

from gradscope.analysis.comparison.facts_by_name import Facts
from gradscope.analysis.diagnoses.answers import find_answers
from gradscope.analysis.facts.modules.checkpoints import bytes_kept_by_checkpoints
from gradscope.analysis.report_builder import gather
from gradscope.analysis.whatif.leaf_names import leaf_names
from gradscope.recording import Recording
from gradscope.recording.flags import HOOKED, PARAMETER
from gradscope.recording.kept_values import KeptValue, SeenLeaf, SeenPass

_TOLD = ("problem", "warning")
_REENTRANT = "CheckpointFunctionBackward"


class TrialFacts:
    """Facts of one run, each computed when it is asked for.

    Args:
        recording: Of the run.
        passes: Its backward passes.
        leaves: The leaves at its end, by row.
        base: Of the unchanged program's run, whose names hold here, too.
    """

    def __init__(
        self,
        recording: Recording,
        passes: Sequence[SeenPass],
        leaves: Mapping[int, SeenLeaf],
        base: TrialFacts | None = None,
    ) -> None:
        self.passes = passes
        self._recording = recording
        self._leaves = leaves
        self._base = base
        self._sources = gather(recording)

    @cached_property
    def names(self) -> dict[int, str]:
        """A name for each parameter, and for each leaf that a pass was about: each its own.

        A variant that ends early has seen less of a parameter's names: those of the unchanged program hold for it, by
        the order in which parameters were made. Leaves of one name are told apart by their order.
        """
        rows = {*self._leaves, *self.reached, *self._parameters}
        for one in self.passes:
            rows.update(one.gradients)
        given = self._given_names()
        best = leaf_names(self._sources.index, self._sources.names, rows - set(given))
        taken = set(given.values())
        found: dict[int, str] = {}
        for row in sorted(rows):
            name = given.get(row)
            if name is None:
                options = (best[row] if at == 1 else f"{best[row]} #{at}" for at in count(1))
                name = next(option for option in options if option not in taken)
                taken.add(name)
            found[row] = name
        return found

    @cached_property
    def _parameters(self) -> list[int]:
        """In the order in which they were made."""
        return [row for row, flags in enumerate(self._recording.tensors.column("flags")) if flags & PARAMETER]

    def _shapes(self) -> list[str]:
        layouts, column = self._recording.layouts, self._recording.tensors.column("layout")
        return [self._recording.text(layouts[column[row]].shape) for row in self._parameters]

    def _given_names(self) -> dict[int, str]:
        """By the order of parameters, where it is the unchanged program's."""
        if self._base is None:
            return {}
        pairs = zip(self._shapes(), self._base._shapes(), strict=False)
        if any(mine != its for mine, its in pairs):
            return {}
        names = self._base.names
        return {row: names[other] for row, other in zip(self._parameters, self._base._parameters, strict=False)}

    @cached_property
    def reached(self) -> dict[int, bool]:
        """For each leaf that required grad in a backward pass, whether one gave it a gradient."""
        return self._sources.gradients.leaves_reached

    @cached_property
    def received(self) -> set[str]:
        """Names of the leaves that got a gradient."""
        return {self.names[row] for row, was in self.reached.items() if was}

    @cached_property
    def run(self) -> Mapping[str, object]:
        """Facts about the run as a whole, as ``compare`` has them."""
        return Facts(self._recording).of_run()

    @cached_property
    def saved_bytes(self) -> int | None:
        """Saved for backward, with what checkpoints keep; None where hooks for saved tensors keep what is not known."""
        by_nodes = self.run["total_saved"]
        by_checkpoints = bytes_kept_by_checkpoints(self._sources.index, self._sources.events)
        return None if by_checkpoints is None or not isinstance(by_nodes, int) else by_nodes + by_checkpoints

    @cached_property
    def recomputes(self) -> bool:
        """Whether saved-tensor hooks were in force, which a checkpoint uses, or one ran that does without."""
        recording = self._recording
        if any(flags & HOOKED for flags in recording.ops.column("flags")):
            return True
        return any(recording.text(name) == _REENTRANT for name in set(recording.nodes.column("name")))

    @cached_property
    def answers(self) -> frozenset[str]:
        """Codes of the problems and warnings that the run gives."""
        answers, _ = find_answers(self._sources)
        return frozenset(answer.code for answer in answers if answer.severity in _TOLD)

    def gradients_after(self, number: int) -> dict[str, KeptValue]:
        """The gradients after a backward pass (its position), by name."""
        return {self.names[row]: value for row, value in self.passes[number].gradients.items()}

    @cached_property
    def values(self) -> dict[str, KeptValue]:
        """The leaves at the end, by name."""
        kept = {self.names[row]: leaf.value for row, leaf in self._leaves.items()}
        return {name: value for name, value in kept.items() if value is not None}

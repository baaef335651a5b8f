"""What one run says: which leaves got gradients, by which names two runs are compared, what was saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from gradscope.analysis.comparison.facts_by_name import Facts
from gradscope.analysis.diagnoses.answers import find_answers
from gradscope.analysis.report_builder import gather
from gradscope.recording import Recording
from gradscope.recording.kept_values import KeptValue, SeenLeaf, SeenPass

_TOLD = ("problem", "warning")


class TrialFacts:
    """Facts of one run, each computed when it is asked for.

    Args:
        recording: Of the run.
        passes: Its backward passes.
        leaves: The leaves at its end, by row.
    """

    def __init__(self, recording: Recording, passes: Sequence[SeenPass], leaves: Mapping[int, SeenLeaf]) -> None:
        self.passes = passes
        self._recording = recording
        self._leaves = leaves
        self._sources = gather(recording)

    @cached_property
    def names(self) -> dict[int, str]:
        """A name for each leaf of which something was kept, or that a pass was about; each its own.

        Leaves of one name are told apart by their order.
        """
        rows = set(self._leaves) | set(self.reached)
        for one in self.passes:
            rows.update(one.gradients)
        found: dict[int, str] = {}
        counts: dict[str, int] = {}
        for row in sorted(rows):
            name = self._sources.names.of(row)
            counts[name] = counts.get(name, 0) + 1
            found[row] = name if counts[name] == 1 else f"{name} #{counts[name]}"
        return found

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

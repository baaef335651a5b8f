"""Which statements led the processes of a job different ways, from how often each ran which lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gradscope.analysis.facts.passes.lines_in_passes import Line
from gradscope.frames.blocks.deciding_branches import Deciding, DecidingStatements
from gradscope.frames.blocks.loops_around import share_a_loop


class DifferingBranch(NamedTuple):
    """A statement that not all ranks left the same way, or as often."""

    line: Line
    keyword: str
    """``if``, ``for``, ``while``, ``match``."""
    header: str
    asks_for_rank: bool
    runs: Mapping[int, int]
    """How often each rank ran what it decides on."""


class DifferingBranches:
    """Finds them.

    Args:
        texts: The user's files, as all ranks have them.
        runs: By line, how often each rank ran it.
        ranks: All that are compared.
        standing: Where those stood that did not end well; a rank that is not here ran to its end.
    """

    def __init__(
        self,
        texts: Mapping[str, str],
        runs: Mapping[Line, Mapping[int, int]],
        ranks: Sequence[int],
        standing: Mapping[int, Line],
    ) -> None:
        self._texts, self._runs, self._ranks, self._standing = texts, runs, ranks, standing
        self._files: dict[str, DecidingStatements] = {}
        self._found: dict[Line, DifferingBranch | None] = {}

    def of(self, line: Line) -> DifferingBranch | None:
        """What led some ranks to a line more often than others; None where that is not exactly known."""
        if line not in self._found:
            self._found[line] = self._look(line)
        return self._found[line]

    def is_over(self, line: Line) -> bool:
        """Whether those that ran a line less often than others are seen to be out of the loop that it runs in."""
        counts = self._counts(line)
        if counts is None or line[0] not in self._texts:
            return False
        fewer = (self._ranks[at] for at, ran in enumerate(counts) if ran < max(counts))
        standing = [self._standing[rank] for rank in fewer if rank in self._standing]
        if any(file != line[0] for file, _ in standing):
            return False
        return not standing or not share_a_loop(self._texts[line[0]], line[1], [at for _, at in standing])

    def _look(self, line: Line) -> DifferingBranch | None:
        file, counts = line[0], self._counts(line)
        if file not in self._texts or counts is None or len(set(counts)) < 2:
            return None
        if file not in self._files:
            self._files[file] = DecidingStatements(self._texts[file], lambda number: self._counts((file, number)))
        found = self._files[file].of(line[1])
        if found is None:
            return None
        most = max(found.ran)
        fewer = (at for at, ran in enumerate(found.ran) if ran < most)
        if not found.asks_for_rank and not all(self._is_past(file, at, found) for at in fewer):
            return None  # (it may have come to its end, or been ended, on the way there)
        by_rank = dict(zip(self._ranks, found.ran, strict=True))
        return DifferingBranch((file, found.line), found.keyword, found.header, found.asks_for_rank, by_rank)

    def _is_past(self, file: str, at: int, found: Deciding) -> bool:
        """Whether a rank was behind the statement as often as it came to it."""
        rank = self._ranks[at]
        if rank not in self._standing:
            return True
        if self._standing[rank][0] == file and found.end_line < self._standing[rank][1] <= found.until:
            return True
        times = 1 if found.begun is None else found.begun[at]
        if any((counts := self._counts((file, line))) and counts[at] >= times > 0 for line in found.behind):
            return True
        return found.keyword == "if" and self._went_on(rank, self._ranks[found.ran.index(max(found.ran))])

    def _went_on(self, rank: int, other: int) -> bool:
        """Whether a rank ran a line more often than another: it is not behind that one."""
        return any(by_rank.get(rank, 0) > by_rank.get(other, 0) for by_rank in self._runs.values())

    def _counts(self, line: Line) -> tuple[int, ...] | None:
        known = self._runs.get(line)
        return None if known is None else tuple(known.get(rank, 0) for rank in self._ranks)

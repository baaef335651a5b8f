"""The recordings of several processes that did one job, as one: how each ended, and in what they differ.

They are ranks that a launcher started, or processes that the program started itself, or both. Each has a number: its
rank; where there are started ones, its position among all, sorted by rank and then by who started which.

Each report is looked at once and not kept, so that many large recordings can be merged.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from gradscope.analysis.comparison.collective_orders import CollectiveOrders, CollectiveParting
from gradscope.analysis.comparison.differing_branches import DifferingBranches
from gradscope.analysis.comparison.rank_causes import rank_causes
from gradscope.analysis.comparison.rank_model import DifferingChoice, GradientGap, LineRuns, RankCause, Ranks
from gradscope.analysis.facts.passes.lines_in_passes import Line
from gradscope.analysis.facts.ranks.rank_facts import RankFacts
from gradscope.analysis.report_model import Answer, Place, Report, RunFacts
from gradscope.frames.blocks.deciding_choices import deciding_choice

NOT_THERE = "not there"
"""What is said of a process that has no such fact."""

SECTIONS = ("gradients", "lines", "cuts")
"""In what ranks may differ, in this order."""


class RankRow(NamedTuple):
    """One process."""

    rank: int
    """Its number."""
    name: str
    """For people: ``rank 1``, ``program``, ``child 1.2``."""
    host: str
    file: str
    """Its recording."""
    run: RunFacts
    ops: int
    backwards: int
    leaves_with_gradient: int
    leaves_without_gradient: int
    saved_bytes: int
    peak_bytes: int
    cuts: int
    errors: int
    waits: str
    """The collective that it waited in at its end, and for how long: ``barrier at line 9 for 20 s``; empty: none."""


class RankValue(NamedTuple):
    """What some ranks have in common where others differ."""

    text: str
    ranks: tuple[int, ...]


class RankDifference(NamedTuple):
    """A fact that is not the same for all ranks."""

    section: str
    """``gradients``, ``lines`` or ``cuts``."""
    place: Place
    subject: str
    """The parameter, or the kind of cut; empty for a line."""
    values: tuple[RankValue, ...]


class RankAnswer(NamedTuple):
    """An answer, and the ranks whose recording gives it."""

    ranks: tuple[int, ...]
    answer: Answer


class MergedRanks(NamedTuple):
    """All that is shown of one job."""

    target: str
    world_size: int
    missing: tuple[int, ...]
    """Ranks without a recording here."""
    stopped_first: int | None
    """The rank that ended first of those that did not end well: by their machine's clock, or one whose recording has no
    end where the first that has one lost its connection."""
    ranks: tuple[RankRow, ...]
    answers: tuple[RankAnswer, ...]
    differences: tuple[RankDifference, ...]
    collectives: tuple[CollectiveParting, ...]
    """Of each group of ranks whose collectives are not the same: the first that differs."""
    causes: tuple[RankCause, ...]
    """What only the recordings together tell; an answer that says a part of it for one rank is left out."""


_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
"""What an error says in one rank where another is gone."""

_WITH_OTHERS = ("gloo", "NCCL", "collective", "monitoredBarrier", "DistBackendError", "imed out", "imeout")
"""What an error says that comes from collectives which do not fit, or take too long."""

_Process = tuple[int, tuple[int, ...]]
"""Rank, and which child it is."""


class RankMerger:
    """Takes reports one after the other."""

    def __init__(self) -> None:
        self._rows: list[RankRow] = []
        self._answers: dict[Hashable, tuple[Answer, list[_Process]]] = {}
        self._facts: dict[tuple[str, Place, str], dict[_Process, str]] = {}
        self._orders, self._with_passes = CollectiveOrders(), CollectiveOrders()
        self._rank_facts: dict[int, RankFacts] = {}
        self._texts: dict[str, str] = {}
        """The user's files; empty: not all have the same."""
        self._runs: dict[Line, dict[int, int]] = {}
        self._whole: set[int] = set()

    def add(self, file: str, report: Report, facts: RankFacts | None = None) -> None:
        """Take one, with what else is to be known of it."""
        run, counts = report.run, report.summary
        if not run.child and facts is not None:
            is_whole = run.outcome != "running" and not counts.left_out
            self._orders.add(run.rank, facts.called, is_whole=is_whole)
            self._with_passes.add(run.rank, facts.with_passes, is_whole=is_whole)
            self._rank_facts[run.rank] = facts._replace(called=(), with_passes=(), texts={})
            self._whole.update([run.rank] if is_whole else [])
            for name, text in facts.texts.items():
                self._texts[name] = text if self._texts.get(name, text) == text and not counts.left_out else ""
            for row in report.lines:
                by_rank = self._runs.setdefault((row.file, row.line), {})
                by_rank[run.rank] = max(by_rank.get(run.rank, 0), row.executions)
        self._rows.append(
            RankRow(
                run.rank,
                "",
                run.host,
                file,
                run,
                counts.ops,
                counts.backwards,
                counts.leaves_with_gradient,
                counts.leaves_without_gradient,
                report.memory.saved_bytes,
                report.memory.peak_bytes,
                counts.cuts,
                counts.errors,
                "" if facts is None else _waits(run, facts),
            )
        )
        for answer in report.answers:
            changed = answer.causes[0] if answer.causes else answer.place
            key = (answer.code, changed and (changed.file, changed.line), answer.subject)
            self._answers.setdefault(key, (answer, []))[1].append(process_of(run))
        for section, place, subject, text in _facts(report):
            self._facts.setdefault((section, place, subject), {})[process_of(run)] = text

    def merged(self) -> MergedRanks:
        """All of them together."""
        found = sorted(self._rows, key=lambda row: process_of(row.run))
        processes = [process_of(row.run) for row in found]
        has_children = any(child for _, child in processes)
        numbers = {process: at if has_children else process[0] for at, process in enumerate(processes)}
        rows = [
            row._replace(rank=numbers[process], name=_name(row.run))
            for row, process in zip(found, processes, strict=True)
        ]
        world_size = max((row.run.world_size for row in rows), default=0)
        known = {rank for rank, _ in processes}
        own = [row for row in rows if not row.run.child]
        all_ended_well = all(row.run.outcome == "ok" and not row.run.exit_code for row in own)
        orders = self._orders if all_ended_well else self._with_passes
        partings = tuple(orders.partings())
        causes = tuple(self._causes(own, partings, all_ended_well)) if len(own) > 1 else ()
        answers = (RankAnswer(tuple(sorted(numbers[p] for p in ps)), answer) for answer, ps in self._answers.values())
        at = {numbers[process]: process[0] for process in processes if not process[1]}
        answers = (one for one in answers if not any(_says_part_of(one, at, cause) for cause in causes))
        # What the program does itself is not what the processes do that it starts.
        # (nor what those do that call no torch: a manager of shared lists)
        ops = {process_of(row.run): row.ops for row in self._rows}
        started = [process for process in processes if process[1] and ops[process]]
        compared = started if has_children and len(own) < 2 else [process for process in processes if not process[1]]
        return MergedRanks(
            target=rows[0].run.target,
            world_size=world_size,
            missing=tuple(rank for rank in range(world_size) if rank not in known),
            stopped_first=_stopped_first(rows),
            ranks=tuple(rows),
            answers=tuple(sorted(answers, key=lambda one: ("problem", "warning", "note").index(one.answer.severity))),
            differences=tuple(self._differences(compared, numbers)),
            collectives=() if has_children else partings,
            causes=causes,
        )

    def _causes(
        self, rows: list[RankRow], partings: tuple[CollectiveParting, ...], all_ended_well: bool
    ) -> Iterable[RankCause]:
        """Of the ranks themselves, whatever processes they started."""
        ranks = sorted(self._rank_facts)
        lines, gaps = [], []
        for (section, place, subject), texts in self._facts.items():
            by_rank = {rank: texts[rank, ()] for rank in ranks if (rank, ()) in texts}
            if section == "lines" and (len(by_rank) < len(ranks) or len(set(by_rank.values())) > 1):
                lines.append(LineRuns(place, by_rank))
            elif section == "gradients" and len(set(by_rank.values())) > 1:
                given, left_out = (tuple(r for r in by_rank if by_rank[r] == what) for what in ("gradient", "none"))
                gaps.append(GradientGap(place, subject, given, left_out))
        stood = {row.run.rank: _stood(row.run) for row in rows}
        own = any(row.run.outcome == "exception" and not _is_of_others(row) for row in rows)
        cut_off = frozenset(row.run.rank for row in rows if row.run.outcome not in ("ok", "exception"))
        waited = {row.run.rank: _waited(row.run, self._rank_facts[row.run.rank]) for row in rows}
        silent = tuple(self._with_passes.partings()) if all_ended_well else ()
        sources = {name: text for name, text in self._texts.items() if text}
        standing = {row.run.rank: _standing(row.run) for row in rows if row.run.outcome != "ok"}
        branches = DifferingBranches(sources, self._runs, ranks, standing)
        return rank_causes(
            Ranks(
                self._rank_facts,
                lines,
                gaps,
                partings,
                all_ended_well,
                stood,
                cut_off,
                waited,
                branches,
                tuple(self._choices(sources)),
                silent,
                self._bypassed(),
                frozenset(self._whole),
                own,
            )
        )

    def _choices(self, texts: Mapping[str, str]) -> Iterator[DifferingChoice]:
        """Expressions that did not give the same part on all ranks, in statements that all of them ran."""
        ranks = sorted(self._rank_facts)
        for place in self._rank_facts[ranks[0]].choices:
            ran = [self._rank_facts[rank].choices.get(place) for rank in ranks]
            known = [some for some in ran if some is not None]
            if len(known) < len(ranks) or len(set(known)) < 2 or place.file not in texts:
                continue
            choice = deciding_choice(texts[place.file], place.line, place.end_line, known)
            if choice is not None:
                yield DifferingChoice(place, choice, dict(zip(ranks, choice.took, strict=True)))

    def _bypassed(self) -> dict[int, Place]:
        """Where ranks call the module inside DistributedDataParallel."""
        found: dict[int, Place] = {}
        for answer, processes in self._answers.values():
            if answer.code == _BYPASSED and answer.causes:
                cause = answer.causes[0]
                place = Place(cause.file, cause.line, cause.end_line, cause.function, cause.source)
                found.update((rank, place) for rank, child in processes if not child)
        return found

    def _differences(self, compared: list[_Process], numbers: dict[_Process, int]) -> Iterable[RankDifference]:
        found = []
        for (section, place, subject), texts in self._facts.items():
            by_text: dict[str, list[int]] = {}
            for process in compared:
                by_text.setdefault(texts.get(process, NOT_THERE), []).append(numbers[process])
            if len(by_text) > 1:
                values = tuple(RankValue(text, tuple(ranks)) for text, ranks in by_text.items())
                found.append(RankDifference(section, place, subject, values))
        return sorted(found, key=lambda one: (SECTIONS.index(one.section), one.place.file, one.place.line))


def _waits(run: RunFacts, facts: RankFacts) -> str:
    call, waited = next(iter(facts.waits), None), _waited(run, facts)
    if call is None:
        return ""
    return f"{call.text} at line {call.place.line}" + f" for {waited:,.0f} s" * (waited >= 1)


def _waited(run: RunFacts, facts: RankFacts) -> float:
    """For how long a process was in a collective when it was ended, in seconds; 0 where that is not known."""
    began = max((call.began for call in facts.waits), default=0)
    is_known = began and run.outcome != "running"
    return (_end_of(run) - datetime.fromtimestamp(began, timezone.utc)).total_seconds() if is_known else 0


def _is_of_others(row: RankRow) -> bool:
    """Whether what ended a rank came from what it does with others."""
    return lost_its_connection(row) or any(sign in row.run.error_message for sign in _WITH_OTHERS)


def _stood(run: RunFacts) -> str:
    """How a process ended, as a clause of which it is the subject."""
    if run.outcome == "ok":
        return "ended well"
    place = run.error_place or run.last_place
    where = f" at line {place.line}" if place is not None else ""
    return f"raised {run.error_type}{where}" if run.outcome == "exception" else f"stood{where}"


def _standing(run: RunFacts) -> Line:
    """Where a process that did not end well stood."""
    place = run.error_place or run.last_place
    return (place.file, place.line) if place is not None else ("", 0)


_BYPASSED = "ddp-bypassed"
_OF_ONE_RANK = ("leaf-unreached", "ddp-unused-parameters")
"""Answers that say of one rank that parameters got no gradient."""


def _says_part_of(one: RankAnswer, at: dict[int, int], cause: RankCause) -> bool:
    """Whether an answer says of some ranks (by their numbers) what a cause says of all."""
    if one.answer.code == _BYPASSED and cause.kind == "called-by-some-ranks" and cause.place is not None:
        return cause.place.line in [place.line for place in one.answer.causes]
    about = cause.kind == "layer-on-some-ranks" and one.answer.code in _OF_ONE_RANK
    return about and {at.get(number) for number in one.ranks} <= set(cause.ranks) and one.answer.tensor in cause.names


def process_of(run: RunFacts) -> _Process:
    """What tells the processes of one job apart: the rank, and which child it is."""
    return run.rank, tuple(int(number) if number.isdecimal() else 0 for number in run.child.split(".") if run.child)


def _name(run: RunFacts) -> str:
    rank = f"rank {run.rank}" if run.world_size > 1 else ""
    return ", ".join(filter(None, [rank, f"child {run.child}" if run.child else ""])) or "program"


def _facts(report: Report) -> Iterable[tuple[str, Place, str, str]]:
    """What is compared: section, place, subject, and the value as text."""
    for backward in report.backwards:
        for gradient in backward.gradients:
            received = "gradient" if gradient.outcome in ("created", "accumulated") else "none"
            yield "gradients", backward.place, gradient.name, received
    for row in report.lines:
        place = Place(row.file, row.line, row.end_line, row.function, row.source)
        yield "lines", place, "", f"ran {row.executions:,} time{'s' * (row.executions != 1)}"
    for cut in report.cuts:
        yield "cuts", cut.place, cut.kind, "cut"


def _stopped_first(rows: list[RankRow]) -> int | None:
    endless = [row for row in rows if row.run.outcome == "running" and not row.run.error_message]
    failed = [row for row in rows if row.run.outcome not in ("ok", "running") and row.run.exit_code != 0]
    if endless:
        lost = any(map(lost_its_connection, failed))
        return endless[0].rank if len(endless) == 1 and (lost or not failed) else None
    if len(failed) < 2 or len({row.host for row in rows}) > 1:
        return failed[0].rank if len(failed) == 1 else None
    if all(row.run.outcome == "timeout" for row in failed):
        return None  # each was ended when its time was up
    first, second, *_ = sorted(failed, key=_ended)
    return first.rank if _ended(first) < _ended(second) else None


def lost_its_connection(row: RankRow) -> bool:
    """Whether what ended a rank was that another one was gone."""
    return any(sign in row.run.error_message for sign in _LOST)


def _ended(row: RankRow) -> datetime:
    return _end_of(row.run)


def _end_of(run: RunFacts) -> datetime:
    return datetime.fromisoformat(run.started_at) + timedelta(microseconds=run.duration_ns / 1000)

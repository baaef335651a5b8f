"""Which diagnoses answer which question, and which answers of a run concern a tensor."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.ways import WayLink
from gradscope.analysis.report_model import Answer
from gradscope.analysis.why.asked import Condition
from gradscope.recording import NONE

_ABOUT: dict[Condition, frozenset[str]] = {
    "none": frozenset(
        """
        backward-reached-nothing leaf-unreached layer-left-out function-without-node attribute-ignored frozen
        grad-of-other-view term-without-gradient grad-none-untracked grad-none-non-leaf grad-none-no-backward
        grad-none-cleared grad-none-unreached asked-for-gradient
        """.split()  # noqa: SIM905
    ),
    "zero": frozenset(("gradient-always-zero", "hook-zeroes-gradient", "hook-writes-shared-gradient")),
    "nan": frozenset(("gradient-not-finite", "hook-writes-shared-gradient")),
    "infinite": frozenset(("gradient-not-finite",)),
}
"""By what a gradient was found to be: the diagnoses that say why."""

_WHOLE_PASS = frozenset(
    """
    backward-no-grad graph-used-twice inplace-error inference-tensor hook-raised backward-not-scalar compiled-backward
    gradient-does-not-fit
    """.split()  # noqa: SIM905
)
"""Diagnoses of a backward pass that raised: it gave a gradient to nobody."""

_ENDS = _WHOLE_PASS | frozenset(
    """
    cannot-require-grad deepcopy-of-result inplace-refused no-derivative no-second-derivative output-differs
    refused-by-autograd tracked-refused
    """.split()  # noqa: SIM905
)
"""Diagnoses of a call that raised."""

_LOSES = frozenset(
    """
    advantage-with-gradient backward-differs-from-forward backward-ignores-incoming backward-reduces-otherwise
    backward-returns-swapped backward-writes-incoming estimate-subtracted factor-always-zero function-without-node
    gradient-always-zero gradient-counted-twice gradient-of-last-round gradient-silently-wrong imaginary-part-lost
    layer-made-anew marked-non-differentiable paired-by-broadcast probabilities-as-logits ratio-without-gradient
    repeated-index-write
    sample-without-gradient skip-path-overwritten stale-result straight-through-reversed target-with-gradient
    term-counted-twice term-without-gradient write-into-expanded zero-factors
    """.split()  # noqa: SIM905
)
"""Diagnoses of a call that passes on less, or another gradient than was meant."""

_ORDER = ("problem", "warning", "note")


def same_in_other_runs(sources: Sources, tensor: int) -> frozenset[int]:
    """A tensor, and the same result of the same call in other runs of its loop."""
    slots = sources.names.slots
    if tensor < 0 or slots[tensor] < 0 or sources.index.is_leaf(tensor):
        return frozenset((tensor,))
    return frozenset(other for other, slot in enumerate(slots) if slot == slots[tensor])


def rows_of(answer: Answer, table: str) -> set[int]:
    """The rows of a table that an answer rests on."""
    return {one.row for one in answer.evidence if one.table == table}


def concerning(answers: Iterable[Answer], tensors: Collection[int], passes: Collection[int] = ()) -> list[Answer]:
    """The answers that concern some tensors, the most harmful first.

    Args:
        answers: All of the run.
        tensors: One tensor, with the same result of other runs.
        passes: Backward passes that started from it.
    """
    wanted, started = set(tensors) - {NONE}, set(passes)
    found = [
        one
        for one in answers
        if not wanted.isdisjoint(rows_of(one, "tensors")) or not started.isdisjoint(rows_of(one, "ops"))
    ]
    return sorted(found, key=lambda one: (_ORDER.index(one.severity), not one.causes))


def explains(answer: Answer, condition: Condition) -> bool:
    """Whether an answer says why a gradient is as it is."""
    return answer.code in _ABOUT.get(condition, ())


def of_failed_pass(answers: Iterable[Answer], op: int) -> Answer | None:
    """What says why a backward pass raised."""
    return next((one for one in answers if one.code in _WHOLE_PASS and op in rows_of(one, "ops")), None)


def lost_on_way(sources: Sources, answers: Iterable[Answer], tensor: int, links: Iterable[WayLink]) -> list[Answer]:
    """The answers about a call of the way to a tensor through which less of the gradient goes than was meant, and about
    the call that made it; in any run of these.
    """
    made = sources.index.made_by(tensor) if tensor >= 0 else NONE
    ops = [link.op for link in links] + [made] * (0 <= made < sources.index.op_count)
    statements = {sources.index.op_statement[op] for op in ops}
    return [
        one
        for one in answers
        if one.code in _LOSES
        and not statements.isdisjoint(sources.index.op_statement[op] for op in rows_of(one, "ops"))
    ]


def of_end(sources: Sources, answers: Iterable[Answer]) -> Answer | None:
    """What says why the program ended with an exception; None where it did not, or nothing explains it."""
    outcome = sources.index.recording.info.outcome
    if outcome.kind != "exception":
        return None
    ended = sources.index.line(outcome.file, outcome.line)
    return next((one for one in answers if one.code in _ENDS and one.place and one.place.line == ended), None)

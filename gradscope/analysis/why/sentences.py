"""The sentence that answers what was asked about a tensor or its gradient."""

from __future__ import annotations

from collections.abc import Sequence

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.gradients import gradient_always_zero, gradient_not_finite
from gradscope.analysis.diagnoses.gradients.grad_none import explain
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.passes.gradient_lives import first_after, last_before
from gradscope.analysis.facts.value_looks import (
    Range,
    born_in_ops,
    is_bad,
    is_nan,
    is_zero,
)
from gradscope.analysis.report_model import Answer, Cause
from gradscope.analysis.why.asked import Condition, Looked, Numbers, Question
from gradscope.analysis.why.cut_advice import advice_for_cut, advice_for_miss
from gradscope.analysis.why.relevance import concerning, explains, of_end, of_failed_pass, rows_of, same_in_other_runs
from gradscope.analysis.why.said import Said
from gradscope.analysis.worded_lines import numbers
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED

_WORDS: dict[Condition, str] = {"none": "None", "zero": "zero throughout", "nan": "NaN", "infinite": "infinite"}

_BETTER = ("grad-of-other-view",)
"""Diagnoses that know more of why there is no gradient than the tensor itself shows."""

_BUFFER = "A buffer is saved with its module and never trained: nn.Parameter makes it one of the module's parameters."

_TOO_EARLY = ("never-stepped", "cleared-before-step", "accumulation-cleared")
"""Diagnoses of a call that clears gradients before they were used."""

_CUTS_TRIED = 64
"""Of the cuts behind a tensor, those of which it is asked whether another lies before them."""

_NOT_FINITE = "gradient-not-finite"
_FIRST_OF_RUN = "The first of the run, which steps carried into its parameters:"


def condition_of(look: Looked, question: Question) -> Condition:
    """What is remarkable about what was asked for; empty for nothing."""
    if question.of_gradient:
        return "none" if look.is_none else look.gradient.condition if look.gradient else ""
    return look.values.condition if look.values else ""


class Sentences:
    """Answers about one tensor.

    Args:
        sources: What was recorded.
        answers: All that the diagnoses found.
        question: What was asked.
        where: Where the expression was evaluated.
        is_recorded: It was not evaluated: the tensor is known from the recording alone.
    """

    def __init__(
        self,
        sources: Sources,
        answers: Sequence[Answer],
        question: Question,
        where: str,
        is_recorded: bool = False,
    ) -> None:
        self._sources = sources
        self._index = sources.index
        self._answers = answers
        self._question = question
        self._where = where
        self._is_recorded = is_recorded

    def of(self, look: Looked) -> Said:
        """The sentence for what an evaluation gave."""
        question = self._question
        is_trained = self._index.is_leaf(look.tensor) and self._index.requires_grad(look.tensor, look.op)
        if question.of_gradient or (is_trained and not question.condition):
            return self._gradient(look)
        return self._tensor(look)

    # The gradient

    def _gradient(self, look: Looked) -> Said:
        numbers = look.gradient
        condition: Condition = "none" if look.is_none else numbers.condition if numbers else ""
        if self._is_recorded and not look.is_none:
            condition = self._condition_in_last_look(look.tensor)
        asked, subject = self._question.condition, f"{self._question.tensor}.grad"
        if asked and asked != condition:
            state = self._state_of_gradient(look, condition)
            return Said(f"{subject} is not {_WORDS[asked]} {self._where}: it {state}.")
        if condition == "none":
            return self._missing(look, f"{subject} is None {self._where}")
        if condition in ("nan", "infinite"):
            return self._not_finite(look, f"{subject} is {_share(numbers, condition)} {self._where}")
        if condition == "zero":
            return self._zero(look, f"{subject} is zero throughout {self._where}")
        return Said(f"{subject} {self._state_of_gradient(look, condition)} {self._where}.{self._passes_of(look)}")

    def _condition_in_last_look(self, tensor: int) -> Condition:
        values = self._last_look(tensor)
        if values is None:
            return ""
        return ("nan" if is_nan(values) else "infinite") if is_bad(values) else "zero" if is_zero(values) else ""

    def _last_look(self, tensor: int) -> Range | None:
        looks = self._sources.looks
        return next((look.gradients[tensor] for look in reversed(looks) if tensor in look.gradients), None)

    def _state_of_gradient(self, look: Looked, condition: Condition) -> str:
        if condition:
            return f"is {_WORDS[condition]}"
        if look.gradient is not None:
            return f"has norm {look.gradient.norm:.4g}"
        values = self._last_look(look.tensor)
        known = f" (when it was last looked at, from {values[0]:.4g} to {values[1]:.4g})" if values else ""
        return f"is there{known}"

    def _passes_of(self, look: Looked) -> str:
        """From which passes a gradient is."""
        lives = self._sources.lives
        given = [op for op in lives.passes.get(look.tensor, []) if op < look.op]
        if not given:
            return " No backward pass was seen to give it: the program set it."
        since = last_before(lives.cleared.get(look.tensor, []), given[-1])
        summed = [op for op in given if op > since]
        lines = list(dict.fromkeys(self._index.op_line(op) for op in summed))
        at = f"line{'s' if len(lines) > 1 else ''} {numbers(lines[:4])}"
        before = since < 0 and self._sources.lives.was_added(look.tensor, summed[0])
        earlier = ", added to a gradient that was there before the first of them that was seen" if before else ""
        if len(summed) == 1:
            return f" It is from the backward pass of {at}{', added to one that was there before' if before else ''}."
        how = "nothing cleared it between them" if since >= 0 or len(given) == len(summed) else ""
        return f" It is the sum of {len(summed)} backward passes of {at}{earlier}: {how}."

    def _missing(self, look: Looked, symptom: str) -> Said:
        sources, tensor = self._sources, look.tensor
        code, finding = explain(sources, tensor, look.op, symptom)
        read = sources.none_reads.reason(tensor, look.op)
        if read.kind == "unreached" and self._index.recording.ops.column("flags")[read.because] & RAISED:
            failed = of_failed_pass(self._answers, read.because)
            if failed is not None:
                return Said.of_answer(failed, f"{symptom}: the backward pass raised.")
        if code == "grad-none-no-backward" and (ended := of_end(self._sources, self._answers)) is not None:
            return Said.of_answer(ended, f"{symptom}: the program raised before a backward pass ran.")
        related = [
            one
            for one in concerning(self._answers, same_in_other_runs(sources, tensor))
            if one.causes and one.severity != "note" and explains(one, "none")
        ]
        better = next((one for one in related if not finding.causes or one.code in _BETTER), None)
        if better is not None:
            return Said.of_answer(better, f"{symptom}.")
        if code == "grad-none-untracked" and not finding.causes:
            return self._never_tracked(look, code, finding)
        text, advice = finding.sentence, ""
        if read.kind == "cleared":
            lines = {(cause.file, cause.line) for cause in finding.causes}
            too_early = next((one for one in self._answers if one.code in _TOO_EARLY and _names(one, lines)), None)
            if too_early is not None:
                return Said.of_answer(too_early, text)
            given = last_before(sources.lives.passes.get(tensor, []), read.because)
            text += f" The backward pass of line {self._index.op_line(given)} had given it one." if given >= 0 else ""
        if read.kind == "unreached":
            miss = (self._index.op_statement[read.because], tensor)
            advice = advice_for_miss(sources, read.reason or sources.gradients.unreached.get(miss))
        return Said(text, True, code, finding.severity, finding.causes, advice, finding.place)

    def _never_tracked(self, look: Looked, code: str, finding: Finding) -> Said:
        """A leaf that nothing asked a gradient for: the line that stored it on a module, or made it."""
        stored = self._sources.stored(look.tensor, look.op) or self._sources.made_at(look.tensor)
        where = f" It was made at line {stored[0].line}." if stored else ""
        is_buffer = any("register_buffer" in cause.source for cause in stored)
        advice = _BUFFER if is_buffer else ""
        return Said(f"{finding.sentence}{where}", True, code, finding.severity, tuple(stored), advice, finding.place)

    def _not_finite(self, look: Looked, symptom: str) -> Said:
        """Why a gradient is NaN or infinite."""
        own = [one for one in concerning(self._answers, (look.tensor,)) if explains(one, "nan")]
        if own:
            return Said.of_answer(own[0], f"{symptom}.")
        passes = self._sources.lives.passes.get(look.tensor, [])
        roots = [root for op in passes[-1:] for root in self._index.roots.get(op, ())]
        earlier = self._carried_from(roots, passes[-1]) if passes else None
        if earlier is not None:
            return Said.of_answer(earlier, f"{symptom}. {_FIRST_OF_RUN}")
        finding = gradient_not_finite.explain(self._sources, look.tensor)
        if finding is not None and finding.causes:
            return Said.of_finding(_NOT_FINITE, finding, f"{symptom}.")
        return Said(f"{symptom}. Where that began was not seen.", found=False)

    def _carried_from(self, tensors: Sequence[int], before: int) -> Answer | None:
        """What was first not finite in the run, where steps of an optimizer have carried that into some tensors."""
        first = next((one for one in self._answers if explains(one, "nan")), None)
        if first is None:
            return None
        since = min(rows_of(first, "ops"), default=before)
        steps = self._sources.flow.origins_of_all(list(tensors), before)
        stepped = self._sources.lives.steps
        carried = any(since < op < before for origin in steps for op in stepped.get(origin, ()))
        return first if carried else None

    def _zero(self, look: Looked, symptom: str) -> Said:
        own = [one for one in concerning(self._answers, {look.tensor}) if explains(one, "zero")]
        if own:
            return Said.of_answer(own[0], f"{symptom}.")
        lives = self._sources.lives
        given = [op for op in lives.passes.get(look.tensor, []) if op < look.op]
        zeroed = first_after(lives.zeroed.get(look.tensor, []), given[-1]) if given else NONE
        if NONE < zeroed < look.op:
            line, call = self._index.op_line(zeroed), self._index.call_name(zeroed)
            why = (
                f"line {line} ({call}) set it to zero after the backward pass of line {self._index.op_line(given[-1])}"
            )
            return Said(f"{symptom}: {why}.", causes=tuple(self._sources.cause("cleared", zeroed)))
        finding = gradient_always_zero.explain(self._sources, look.tensor)
        if finding is not None:
            return Said.of_finding("gradient-always-zero", finding, f"{symptom}.")
        at = f"the backward pass of line {self._index.op_line(given[-1])} gave zeros" if given else "nothing gave it"
        return Said(f"{symptom}: {at}. Which call's derivative is zero was not seen.", found=False)

    # The tensor

    def _tensor(self, look: Looked) -> Said:
        name, asked = self._question.tensor, self._question.condition
        condition: Condition = look.values.condition if look.values else ""
        if asked and asked != condition:
            about = f": its norm is {look.values.norm:.4g}" if look.values else ""
            known = f"{name} is not {_WORDS[asked]} {self._where}{about}."
            seen = self._bad_root(look.tensor, asked) if self._is_recorded else None
            if seen is not None:
                return self._born(seen, f"{name} was {_WORDS[asked]} when {self._pass_named(seen.op)} began")
            if self._is_recorded:
                return Said(f"{name} has gone by the end of the run: --at LINE looks at it while it is there.", False)
            return Said(known)
        if condition in ("nan", "infinite"):
            return self._born(look, f"{name} is {_share(look.values, condition)} {self._where}")
        if condition == "zero" and asked:
            return Said(f"{name} is zero throughout {self._where}: it was {self._sources.made(look.tensor)}.")
        if not self._index.requires_grad(look.tensor, look.op):
            return self._untracked(look, f"{name} does not require grad {self._where}")
        return Said(f"{name} requires grad {self._where}{self._how_made(look)}.{self._backward_of(look)}")

    def _bad_root(self, tensor: int, asked: Condition) -> Looked | None:
        """The first backward pass that started from a tensor, or that in another run, when it was as was asked."""
        alike = same_in_other_runs(self._sources, tensor)
        for look in self._sources.looks:
            if any((is_nan(values) if asked == "nan" else is_bad(values)) for values in look.bad_roots):
                started = [root for root in self._index.roots.get(look.op, ()) if root in alike]
                if started and asked in ("nan", "infinite"):
                    return Looked(look.op, started[0])
        return None

    def _pass_named(self, op: int) -> str:
        number = sum(one <= op for one in self._sources.gradients.roots)
        return f"backward pass {number} (line {self._index.op_line(op)})"

    def _born(self, look: Looked, symptom: str) -> Said:
        """The call on the way to a tensor in which a NaN began, or what steps had carried into its parameters."""
        sources, tensor = self._sources, look.tensor
        alike = same_in_other_runs(sources, tensor)
        earlier = self._carried_from([tensor], look.op)
        own = [one for one in concerning(self._answers, alike) if explains(one, "nan")]
        if earlier is not None or own:
            return (
                Said.of_answer(earlier, f"{symptom}. {_FIRST_OF_RUN}")
                if earlier
                else Said.of_answer(own[0], f"{symptom}.")
            )
        born = born_in_ops(sources.events)
        steps = sources.flow.origins(tensor, look.op) if born else {}
        made = self._index.recording.tensors.column("op")[tensor]
        ops = {one for one in (made, *(step.op for step in steps.values())) if one in born}
        if not ops:
            return Said(f"{symptom}. Where that began was not seen.", found=False)
        op = min(ops)
        what = "NaN" if is_nan(born[op]) else "an infinity"
        call = self._index.call_name(op)
        return Said(
            f"{symptom}: it began at line {self._index.op_line(op)}, where {call} gave {what} and was given none.",
            code=_NOT_FINITE,
            severity="problem",
            causes=tuple(sources.cause("used", op)),
            place=self._index.op_place(op),
            advice=gradient_not_finite.advice_for(call.rpartition(".")[2].strip("_")),
        )

    def _untracked(self, look: Looked, symptom: str) -> Said:
        sources = self._sources
        alike = same_in_other_runs(sources, look.tensor)
        started = [op for op, roots in self._index.roots.items() if not alike.isdisjoint(roots)]
        failed = next((one for op in started if (one := of_failed_pass(self._answers, op)) is not None), None)
        if failed is not None:
            return Said.of_answer(failed, f"{symptom}.")
        path, steps = sources.flow.path, sources.flow.origins(look.tensor, look.op)
        cuts = [tensor for tensor, step in steps.items() if step.loses]
        first = {steps[one].op for one in cuts[:_CUTS_TRIED] if sum(step.loses for step in path(steps, one)) == 1}
        nearest = sorted(first, reverse=True)[:2]
        if nearest:
            where = " and ".join(dict.fromkeys(sources.cuts.where(op) for op in nearest))
            return Said(
                f"{symptom}: the way from what requires grad is cut at {where}.",
                causes=_one_a_line(sources.cut_causes(nearest)),
                advice=advice_for_cut(sources, nearest[0]),
            )
        if self._index.is_leaf(look.tensor) and len(steps) == 1:
            return Said(f"{symptom}: it was {sources.made(look.tensor)}, and nothing turned that on.")
        return Said(f"{symptom}: nothing that it was made from does. It was {sources.made(look.tensor)}.")

    def _how_made(self, look: Looked) -> str:
        return f": it was {self._sources.made(look.tensor)}"

    def _backward_of(self, look: Looked) -> str:
        """What a pass that started from it did, and whether its own gradient is kept."""
        index = self._index
        started = [op for op, roots in index.roots.items() if look.tensor in roots and op < look.op]
        if not started:
            return "" if index.is_leaf(look.tensor) else f" {self._question.tensor}.retain_grad() keeps its gradient."
        rows = [index.recording.gradients[row] for row in index.gradients.of(started[-1])]
        reached = sum(row.outcome <= 1 for row in rows)
        missed = sum(row.outcome > 1 and index.requires_grad(row.tensor, row.op) for row in rows)
        left = f", {missed} got none" if missed else ""
        leaves = "leaf" if reached == 1 else "leaves"
        return f" The backward pass of line {index.op_line(started[-1])} gave a gradient to {reached} {leaves}{left}."


def _names(answer: Answer, lines: set[tuple[str, int]]) -> bool:
    return any((cause.file, cause.line) in lines for cause in answer.causes)


def _one_a_line(causes: Sequence[Cause]) -> tuple[Cause, ...]:
    """Of several causes on one line the first."""
    return tuple({(one.file, one.line): one for one in reversed(causes)}.values())[::-1]


def _share(numbers: Numbers | None, condition: Condition) -> str:
    """``NaN in 3 of 12 elements``."""
    if numbers is None:
        return _WORDS[condition]
    count = numbers.nans if condition == "nan" else numbers.infinities
    return (
        _WORDS[condition]
        if count == numbers.elements
        else f"{_WORDS[condition]} in {count:,} of {numbers.elements:,} elements"
    )

"""From a recording and what its expression gave to the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradscope.analysis.diagnoses.answers import find_answers
from gradscope.analysis.diagnoses.catalogue import diagnosis
from gradscope.analysis.facts.graphs.ways import Way, Ways
from gradscope.analysis.observations import run_facts
from gradscope.analysis.report_builder import gather
from gradscope.analysis.report_model import Answer
from gradscope.analysis.why.asked import Looked, LookedAt, Question
from gradscope.analysis.why.lines import about_line, about_number, line_way
from gradscope.analysis.why.recorded_names import NamedTensor, find_named, near_names
from gradscope.analysis.why.relevance import concerning, lost_on_way, rows_of, same_in_other_runs
from gradscope.analysis.why.said import Said
from gradscope.analysis.why.sentences import Sentences, condition_of
from gradscope.analysis.why.way_steps import WaySteps
from gradscope.analysis.why.why_model import FurtherAnswer, SeenGradient, WayStep, WhyAnswer
from gradscope.analysis.worded_lines import stretch
from gradscope.errors import EvaluationError
from gradscope.recording import NONE, Recording

_FURTHER = 3
"""Other sentences about the tensor."""


def answer_question(
    question: Question, looked: LookedAt, recording: Recording, filename: str, runs: int = 1
) -> WhyAnswer:
    """The answer.

    Args:
        question: What was asked.
        looked: What its expression gave.
        recording: Of the same run; complete.
        filename: The program's own file, which ``--line`` counts in.
        runs: How often the program was run for it.

    Raises:
        EvaluationError: The question is about nothing that the run had.
    """
    return _WhyBuilder(question, looked, recording, filename, runs).answer()


class _WhyBuilder:
    def __init__(self, question: Question, looked: LookedAt, recording: Recording, filename: str, runs: int) -> None:
        self._question = question
        self._looked = looked
        self._recording = recording
        self._runs = runs
        self._file = next((at for at, file in enumerate(recording.files) if file.path == filename), NONE)
        self._sources = gather(recording)
        self._index = self._sources.index
        self._ways = Ways(self._index, self._sources.cuts, self._sources.flow, self._sources.gradients)
        self._answers, self._faults = find_answers(self._sources)

    def answer(self) -> WhyAnswer:
        """The answer to the question, of whichever form."""
        question = self._question
        if question.lines is not None:
            return self._of_line(question.lines)
        if not question.expression:
            return self._of_run()
        look = self._chosen()
        if not look.error:
            return self._of_tensor(look, self._looked.where)
        named = find_named(self._sources, question) if look.is_unknown else None
        if named is not None:
            return self._of_recorded(named)
        number = about_number(self._sources, self._answers, question.tensor, self._file)
        if number is not None:
            return self._built(*number, None)
        raise EvaluationError(look.error, look.hint or self._how_to_ask(look))

    def _chosen(self) -> Looked:
        """The evaluation that the answer is about: the first at which it is as the question says, else the last."""
        looks = self._looked.looks
        if not looks:
            ran = (
                f"line {self._question.at} was never run" if self._question.at else "the program did not come to an end"
            )
            raise EvaluationError(f"{ran}, so {self._question.expression} was not evaluated")
        known = [look for look in looks if not look.error] or looks
        wanted = self._question.condition
        as_asked = (look for look in known if wanted and condition_of(look, self._question) == wanted)
        return next(as_asked, known[-1])

    def _how_to_ask(self, look: Looked) -> str:
        if not look.is_unknown:
            return "ask for a tensor: x, x.grad, model.fc.weight.grad"
        close = near_names(self._sources, self._question)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        if self._question.at:
            return f"{meant}--at takes the line of a statement at which it is there"
        return f"{meant}what a function has is there while it runs: --at LINE evaluates at a line of it"

    def _of_tensor(self, look: Looked, where: str) -> WhyAnswer:
        if look.tensor < 0:
            raise EvaluationError(
                f"{self._question.tensor} is a tensor that no call of the program was seen to make or to use",
                "ask for one that it has under a name; of a part of one (w[0]) ask for the whole",
            )
        said = Sentences(self._sources, self._answers, self._question, where).of(look)
        return self._built(said, look.tensor, look)

    def _of_recorded(self, named: NamedTensor) -> WhyAnswer:
        """Of a tensor that has gone, or that a function held which has returned: from the recording alone."""
        look = Looked(
            self._index.op_count,
            named.tensor,
            is_none=not self._sources.lives.is_there(named.tensor, self._index.op_count),
        )
        where = f"(the last that {named.function or 'the program'} was seen to have)"
        said = Sentences(self._sources, self._answers, self._question, where, is_recorded=True).of(look)
        return self._built(said, named.tensor, None, named.remarks)

    def _of_line(self, lines: tuple[int, int]) -> WhyAnswer:
        about = about_line(self._sources, self._answers, self._file, lines)
        if about is None:
            named = stretch(*lines)
            raise EvaluationError(
                f"{named}: no torch call was seen there, and nothing that was found leads there",
                "the line was never run, or nothing on it concerns autograd",
            )
        said, tensor = about
        return self._built(said, tensor, None)

    def _of_run(self) -> WhyAnswer:
        outcome = self._recording.info.outcome
        if not self._answers and outcome.kind == "exception":
            at = f" at line {self._index.line(outcome.file, outcome.line)}" if outcome.line > 0 else ""
            raised = f"The program raised {outcome.error_type}{at}: {outcome.message.partition(chr(10))[0]}"
            return self._built(Said(f"{raised}. Nothing was found that explains it.", found=False), NONE, None)
        if not self._answers or self._answers[0].severity == "note":
            passes = self._index.times(self._sources.gradients.roots)
            counted = (
                f"{self._index.times(range(self._index.op_count)):,} calls of torch and {passes:,} backward passes"
            )
            said = Said(f"No problem was seen in this run of {counted}.", found=False)
            return self._built(said, NONE, None)
        first = self._answers[0]
        return self._built(Said.of_answer(first), self._tensor_of(first), None)

    def _tensor_of(self, answer: Answer) -> int:
        """The tensor that an answer is about: the one that it names."""
        rows = sorted(rows_of(answer, "tensors"))
        named = [row for row in rows if self._sources.names.of(row) == answer.tensor]
        return (named or rows or [NONE])[0]

    def _built(self, said: Said, tensor: int, look: Looked | None, remarks: Sequence[str] = ()) -> WhyAnswer:
        way = self._way(said, tensor, look)
        is_trained = look is not None and look.requires_grad and self._index.is_leaf(tensor)
        known_of = self._question.of_gradient or is_trained
        seen = {tensor: _seen_gradient(look)} if look is not None and known_of else {}
        known = diagnosis(said.code) if said.code else None
        advice = said.advice or (" ".join(known.explanation.remedy.split()) if known and said.severity else "")
        incomplete = ("a diagnosis failed: the answer may be incomplete",) if self._faults else ()
        return WhyAnswer(
            run=run_facts(self._recording),
            question=self._question.text,
            found=said.found,
            code=said.code,
            severity=said.severity,
            text=said.text,
            tensor=self._question.tensor or self._sources.names.of(tensor),
            place=said.place,
            root=self._sources.names.at(way.root, way.start) if way is not None else "",
            way=self._steps(way, tensor, seen),
            changes=said.causes,
            advice=advice,
            further=self._further(said, tensor, way),
            lacks_birth=not said.causes and self._is_about_values(said, look),
            looked=len(self._looked.looks),
            runs=self._runs,
            remarks=(*remarks, *self._recording.info.remarks, *incomplete),
        )

    @staticmethod
    def _is_of_one_cause(answer: Answer, said: Said) -> bool:
        lines = {(cause.file, cause.line) for cause in said.causes}
        return bool(answer.causes) and (answer.causes[0].file, answer.causes[0].line) in lines

    def _steps(self, way: Way | None, tensor: int, seen: dict[int, SeenGradient]) -> tuple[WayStep, ...]:
        """The way; the tensor that was asked about is called as it was asked for."""
        if way is None:
            return ()
        steps = WaySteps(self._sources, seen).describe(way)
        asked = self._question.tensor if way.tensor == tensor else ""
        return (*steps[:-1], steps[-1]._replace(name=asked or steps[-1].name))

    def _is_about_values(self, said: Said, look: Looked | None) -> bool:
        if look is not None and condition_of(look, self._question) in ("nan", "infinite", "zero"):
            return True
        return said.code == "gradient-not-finite"

    def _way(self, said: Said, tensor: int, look: Looked | None) -> Way | None:
        if tensor < 0:
            return None
        before = look.op if look is not None and look.op else self._index.op_count
        if self._question.lines is not None and (way := line_way(self._sources, self._ways, said, tensor)) is not None:
            return way
        is_tracked = self._index.requires_grad(tensor, before)
        leads_down = not is_tracked or not (self._index.is_leaf(tensor) or self._question.of_gradient)
        return self._ways.through(tensor, before) if leads_down else self._ways.to(tensor, before)

    def _further(self, said: Said, tensor: int, way: Way | None) -> tuple[FurtherAnswer, ...]:
        """Of the tensor itself, of passes that started from it, and of a call on the way to it that lost something."""
        alike = same_in_other_runs(self._sources, tensor)
        started = [op for op, roots in self._sources.gradients.roots.items() if not alike.isdisjoint(roots)]
        concerned = concerning(self._answers, alike, started)
        on_way = lost_on_way(self._sources, self._answers, tensor, [] if way is None else [*way.links, *way.below])
        found = [
            FurtherAnswer(one.code, one.severity, one.text, one.causes[0].line if one.causes else 0)
            for one in [*concerned, *(one for one in on_way if one not in concerned)]
            if one.text != said.whole and one.severity != "note" and not self._is_of_one_cause(one, said)
        ]
        return tuple(found[:_FURTHER])


def _seen_gradient(look: Looked) -> SeenGradient:
    numbers = look.gradient
    if numbers is None:
        return SeenGradient(look.is_none, None, None, None)
    if numbers.nans:
        return SeenGradient(False, None, math.nan, math.nan)
    return SeenGradient(False, None if numbers.infinities else numbers.norm, numbers.low, numbers.high)

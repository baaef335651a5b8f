"""What diagnoses are made from: the facts of one recording, how they speak of a tensor, and what a finding rests on."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.report_model import Cause, CauseRole, Evidence, Severity
from gradscope.analysis.wording import listed
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, RAISED
from gradscope.recording.rows import BindingKind, OpKind

if TYPE_CHECKING:
    from gradscope.analysis.facts.derivatives.function_sources import FunctionSources, Lines
    from gradscope.analysis.facts.derivatives.zero_derivatives import Blocked
    from gradscope.analysis.facts.events import Events, Happened
    from gradscope.analysis.facts.gradients import Gradients
    from gradscope.analysis.facts.leaf_gradients.none_reads import NoneReads
    from gradscope.analysis.facts.library_calls import LibraryCalls
    from gradscope.analysis.facts.memory.items_kept_again import KeptAgain
    from gradscope.analysis.facts.memory.kept_after_passes import KeptAfterPasses
    from gradscope.analysis.facts.memory_writes.inplace_writes import InplaceWrites
    from gradscope.analysis.facts.memory_writes.onto_themselves import OntoItself
    from gradscope.analysis.facts.memory_writes.outside_writes import OutsideWrites
    from gradscope.analysis.facts.memory_writes.put_on_trained import PutOnTrained
    from gradscope.analysis.facts.memory_writes.self_copies import SelfCopy
    from gradscope.analysis.facts.memory_writes.stale_snapshots import StaleSnapshot
    from gradscope.analysis.facts.modes.kept_from_training import KeptFromTraining
    from gradscope.analysis.facts.modes.tracked_in_threads import KeptInThread
    from gradscope.analysis.facts.modes.values_given import ValuesGiven
    from gradscope.analysis.facts.modules.copied_modules import TreatedAsTwo
    from gradscope.analysis.facts.modules.copies_of_closures import CopiedClosure
    from gradscope.analysis.facts.modules.made_each_round import MadeEachRound
    from gradscope.analysis.facts.modules.registered_hooks import RegisteredHooks
    from gradscope.analysis.facts.names.best_names import BestNames
    from gradscope.analysis.facts.passes.ends_at_steps import EndsAtStep
    from gradscope.analysis.facts.passes.gradient_lives import GradientLives
    from gradscope.analysis.facts.passes.passes import Passes
    from gradscope.analysis.facts.passes.passes_by_step import PassesByStep
    from gradscope.analysis.facts.program.caught_errors import CaughtErrors
    from gradscope.analysis.facts.program.snippet_runs import SnippetRuns
    from gradscope.analysis.facts.statement_counts.statement_runs import StatementRuns
    from gradscope.analysis.facts.storage_groups import StorageGroups
    from gradscope.analysis.facts.tracking.cuts import Cuts
    from gradscope.analysis.facts.tracking.flow import Flow
    from gradscope.analysis.facts.value_looks import PassLook
    from gradscope.analysis.index import Index

_COMPARED = 60
"""Characters of two messages that are compared: they may be kept at different lengths."""


@dataclass(eq=False, repr=False)
class Sources:
    """What diagnoses are made from; facts that few diagnoses ask for are imported and found when one does."""

    index: Index
    names: BestNames
    cuts: Cuts
    flow: Flow
    gradients: Gradients
    passes: Passes
    writes: InplaceWrites
    sharing: StorageGroups
    runs: StatementRuns

    @cached_property
    def events(self) -> Events:
        """What happened beside calls of torch functions: optimizers that were made."""
        from gradscope.analysis.facts.events import Events

        return Events(self.index)

    @cached_property
    def libraries(self) -> LibraryCalls:
        """What libraries did for themselves in calls of the user's lines."""
        from gradscope.analysis.facts.library_calls import LibraryCalls

        return LibraryCalls(self.index, self.names, self.gradients, self.cuts)

    @cached_property
    def lives(self) -> GradientLives:
        """When each tensor got gradients, when they were cleared, and when steps took them."""
        from gradscope.analysis.facts.passes.gradient_lives import GradientLives

        return GradientLives(self.index)

    @cached_property
    def passes_by_step(self) -> PassesByStep:
        """Which step followed each pass, and what it updated."""
        from gradscope.analysis.facts.passes.passes_by_step import PassesByStep

        return PassesByStep(self.index, self.lives)

    @cached_property
    def left_out(self) -> KeptFromTraining:
        """Which leaves the program keeps out of training on purpose, as far as it shows."""
        from gradscope.analysis.facts.modes.kept_from_training import KeptFromTraining

        return KeptFromTraining(self.index, self.cuts, self.flow, self.events)

    @cached_property
    def values_given(self) -> ValuesGiven:
        """Which leaves the program gives new values itself."""
        from gradscope.analysis.facts.modes.values_given import ValuesGiven

        return ValuesGiven(self.index, self.flow, self.lives)

    @cached_property
    def functions(self) -> FunctionSources:
        """The backwards of custom Functions, as their source has them."""
        from gradscope.analysis.facts.derivatives.function_sources import FunctionSources

        return FunctionSources(self.index, self.events)

    @cached_property
    def outside_writes(self) -> OutsideWrites:
        """What backward passes computed from memory that was changed outside torch's functions."""
        from gradscope.analysis.facts.memory_writes.outside_writes import OutsideWrites

        return OutsideWrites(self.index, self.passes, self.sharing, self.events)

    @cached_property
    def caught(self) -> CaughtErrors:
        """Who caught what torch raised."""
        from gradscope.analysis.facts.program.caught_errors import CaughtErrors

        return CaughtErrors(self.index, self.events)

    @cached_property
    def copied_as_two(self) -> tuple[TreatedAsTwo, ...]:
        """Shallow copies of modules that the program treats as modules of their own."""
        from gradscope.analysis.facts.modules.copied_modules import treated_as_two

        loaded = {tensor: copied.op for copied in self.self_copies for tensor in copied.tensors}
        return tuple(treated_as_two(self.index, self.events, self.lives, self.sharing, loaded, self.names_held))

    @cached_property
    def copied_closures(self) -> tuple[CopiedClosure, ...]:
        """Deep copies of modules that compute with the parameters of the original."""
        from gradscope.analysis.facts.modules.copies_of_closures import copied_closures

        return tuple(copied_closures(self.index))

    @cached_property
    def ends_at_steps(self) -> tuple[EndsAtStep, ...]:
        """Losses to which what an optimizer holds leads only through another optimizer's step."""
        from gradscope.analysis.facts.optimizers import seen_optimizers
        from gradscope.analysis.facts.passes.ends_at_steps import ends_at_steps

        return tuple(ends_at_steps(self.index, self.lives, seen_optimizers(self.index, self.events)))

    @cached_property
    def self_copies(self) -> tuple[SelfCopy, ...]:
        """Modules that were loaded from themselves under another name."""
        from gradscope.analysis.facts.memory_writes.self_copies import self_copies

        return tuple(self_copies(self.index, self.sharing))

    @cached_property
    def looks(self) -> list[PassLook]:
        """Every backward pass that was looked at, in the order of the run."""
        from gradscope.analysis.facts.value_looks import looks_at_passes

        return looks_at_passes(self.events)

    @cached_property
    def zero_gradients(self) -> list[Blocked]:
        """The calls whose derivative was zero, with the leaves that got nothing but zeros by them."""
        from gradscope.analysis.facts.derivatives.zero_derivatives import ZeroGradients

        return ZeroGradients(self.index, self.passes, self.looks, self.functions).found()

    @cached_property
    def kept_again(self) -> list[KeptAgain]:
        """Tensors that a list keeps several times, and that were written in between."""
        from gradscope.analysis.facts.memory.items_kept_again import kept_again

        return kept_again(self.index, self.sharing, self.names_held)

    @cached_property
    def stale_snapshots(self) -> dict[int, list[StaleSnapshot]]:
        """By the statement that took them: snapshots without a copy that were changed, and read as if they had not."""
        from gradscope.analysis.facts.memory_writes.stale_snapshots import StaleSnapshots

        return StaleSnapshots(self.index, self.names, self.sharing).by_statement()

    @cached_property
    def mixed_with_themselves(self) -> tuple[OntoItself, ...]:
        """What is written with nothing but its own values."""
        from gradscope.analysis.facts.memory_writes.onto_themselves import onto_themselves

        return tuple(onto_themselves(self.index, self.sharing))

    @cached_property
    def made_each_round(self) -> tuple[MadeEachRound, ...]:
        """Modules and parameters that a training loop makes anew in each of its rounds."""
        from gradscope.analysis.facts.modules.made_each_round import made_each_round

        return tuple(made_each_round(self.index, self.lives, self.events.in_optimizers))

    @cached_property
    def put_on_trained(self) -> tuple[PutOnTrained, ...]:
        """Networks that were put on the memory of a trained one and used as others."""
        from gradscope.analysis.facts.memory_writes.put_on_trained import put_on_trained

        return tuple(put_on_trained(self.index, self.lives, self.names_held))

    @cached_property
    def hooks(self) -> RegisteredHooks:
        """The hooks that the program registered."""
        from gradscope.analysis.facts.modules.registered_hooks import RegisteredHooks

        return RegisteredHooks(self.index, self.events)

    @cached_property
    def tracked_behind(self) -> frozenset[int]:
        """Ops that ran with gradients on behind a ``torch.no_grad()`` that nothing entered, or another thread did."""
        from gradscope.analysis.facts.modes.tracked_behind import tracked_behind

        return tracked_behind(self.index).union(*(kept.ops for kept in self.kept_in_threads))

    @cached_property
    def kept_in_threads(self) -> tuple[KeptInThread, ...]:
        """What other threads tracked while grad mode was off in the first, and was kept with its graph."""
        from gradscope.analysis.facts.modes.tracked_in_threads import kept_in_threads

        return tuple(kept_in_threads(self.index, self.cuts.regions, self.passes))

    @cached_property
    def snippets(self) -> SnippetRuns:
        """How the parts of a transcript, page or notebook ran."""
        from gradscope.analysis.facts.program.snippet_runs import SnippetRuns

        return SnippetRuns(self.index, self.events)

    @cached_property
    def none_reads(self) -> NoneReads:
        """Where ``.grad`` was read and was None."""
        from gradscope.analysis.facts.leaf_gradients.none_reads import NoneReads

        return NoneReads(self.index, self.gradients, self.passes)

    def listed(self, names: Collection[str]) -> str:
        """Names of tensors in a sentence, shortened only where no other parameter is called so."""
        return listed(names, self.names.of_parameters)

    def is_a_librarys_own(self, tensor: int) -> bool:
        """Whether a library's code brought a tensor into the run, and no name of the program's was seen to hold it."""
        op = self.index.recording.tensors.column("op")[tensor]
        brought_by = self.index.recording.ops.column("inner")[op] if op < self.index.op_count else NONE
        return brought_by >= 0 and not self.names.is_named(tensor)

    def is_a_librarys_business(self, finding: Finding) -> bool:
        """Whether a finding is about what a library made for itself and did with it in a call of its own.

        What ended a program, or was raised, concerns the user whatever it is about.
        """
        ops = [one.row for one in finding.evidence if one.table == "ops" and 0 <= one.row < self.index.op_count]
        tensors = [one.row for one in finding.evidence if one.table == "tensors"]
        flags = self.index.recording.ops.column("flags")
        if not tensors or not ops or any(flags[op] & RAISED or not self.libraries.makes[op] for op in ops):
            return False
        return all(self.libraries.unclaimed[tensor] for tensor in tensors)

    def finding(
        self,
        symptom: str,
        *,
        op: int,
        tensors: Collection[int],
        why: str = "",
        causes: Iterable[Cause] = (),
        evidence: Iterable[Evidence] = (),
        advice: str = "",
        severity: Severity | None = None,
    ) -> Finding:
        """A finding about some tensors, placed at an op.

        Args:
            symptom: What was seen, at which line.
            op: Where the finding is placed; it is part of the evidence.
            tensors: What it is about, the first for all.
            why: What it comes from.
            causes: Lines to change; each is named once, as what it was first.
            evidence: Further rows that it rests on.
            advice: What to do about it.
            severity: Where it is another than the diagnosis's own.
        """
        names = [self.names.at(tensor, op) for tensor in tensors]
        lines: dict[tuple[str, int], Cause] = {}
        for cause in causes:
            lines.setdefault((cause.file, cause.line), cause)
        own = (Evidence("ops", op), *(Evidence("tensors", tensor) for tensor in tensors if tensor >= 0))
        return Finding(
            subject=self.listed(names),
            symptom=symptom,
            why=why,
            causes=tuple(lines.values()),
            evidence=tuple(dict.fromkeys([*own, *evidence])),
            place=self.index.op_place(op),
            tensor=names[0] if names else "",
            advice=advice,
            severity=severity,
        )

    def backward_at(self, op: int, causes: Collection[Cause]) -> str:
        """A backward pass at the beginning of a sentence: with its line where several lines of the program make one.

        It is where the symptom shows. Where there is no other, its line tells nothing, and reads as if it were to be
        changed; it is named where no cause is.
        """
        place = self.index.op_place(op)
        is_named = not causes or len(self._lines_of_backward | {(place.file, place.line)}) > 1
        return f"Line {self.index.op_line(op)}: backward" if is_named else "Backward"

    @cached_property
    def _lines_of_backward(self) -> set[tuple[str, int]]:
        """Of passes that are to fill ``.grad``: ``autograd.grad`` is no ``backward``."""
        kinds = self.index.recording.ops.column("kind")
        places = (self.index.op_place(op) for op in self.gradients.roots if kinds[op] == OpKind.BACKWARD)
        return {(place.file, place.line) for place in places}

    def cause(self, role: CauseRole, op: int) -> list[Cause]:
        """The line of an op as a cause; empty where no user code made it."""
        index = self.index
        return self._cause(role, index.recording.ops.column("span")[op] if 0 <= op < index.op_count else NONE)

    def _cause(self, role: CauseRole, span: int) -> list[Cause]:
        index = self.index
        if span < 0:
            return []
        row, place = index.recording.spans[span], index.place(index.statement_of_span[span])
        columns = (row.col, row.end_col) if row.col >= 0 and row.end_col >= 0 else ()
        source = index.recording.source(row.file, row.line, row.end_line)
        return [Cause(place.file, index.span_line(span), row.end_line, columns, place.function, source, role)]

    def cause_of_span(self, role: CauseRole, span: int) -> list[Cause]:
        """The line of a span as a cause; empty for NONE."""
        return self._cause(role, span)

    def cause_of_event(self, role: CauseRole, event: Happened) -> list[Cause]:
        """The line of an event as a cause; empty where no user code made it."""
        return self._cause(role, event.span)

    def raised(self, *messages: str) -> list[tuple[int, str, Severity | None]]:
        """Ops that raised with one of some messages: the op, the message, and the severity of what is said of it.

        One that the program caught is a note where it may have been asked for, to see what can be done, and a warning
        where it ended what the program was doing, which then went on without that.
        """
        recording, spans = self.index.recording, self.index.recording.ops.column("span")
        found: list[tuple[int, str, Severity | None]] = []
        for error in recording.errors:
            text = recording.text(error.message)
            if any(message in text for message in messages):
                severity = self.severity_of_error(spans[error.op], recording.text(error.type_name), text)
                found.append((error.op, text, severity))
        return found

    def severity_of_error(self, span: int, error: str, message: str) -> Severity | None:
        """The severity of what is said of an error: None where it ended the program.

        Args:
            span: Of the call that raised.
            error: The name of the error's class.
            message: Its message.
        """
        outcome = self.index.recording.info.outcome
        if outcome.kind == "exception" and message[:_COMPARED] == outcome.message[:_COMPARED]:
            return None
        caught = self.caught.at(span, error)
        return "note" if caught is None or caught.was_asked_for else "warning"

    def cause_of_line(self, role: CauseRole, file: int, line: int, end_line: int, function: str) -> Cause:
        """Lines of a file as a cause, where the source names them and no call was seen there."""
        recording = self.index.recording
        source = recording.source(file, line, end_line)
        return Cause(recording.files[file].name, self.index.line(file, line), end_line, (), function, source, role)

    def stored(self, tensor: int, before: int, *, on_object: bool = False, under: str = "") -> list[Cause]:
        """The statement that last stored a tensor under a name, before an op ran; empty where none was seen.

        What a function returns is stored where it is called: that is the line by which it is kept.

        Args:
            tensor: The tensor.
            before: The op.
            on_object: Only names that are part of an object: ``self.weights``, ``kept["x"]``.
            under: Only this name.
        """
        text, rows = self.index.recording.text, self._stores.get(tensor, ())
        spans = [
            span
            for name, op, span in rows
            if op < before
            and not (on_object and text(name).isidentifier())
            and under in ("", text(name))
            and not self.is_loop_variable(text(name), span)
        ]
        return [cause._replace(columns=()) for cause in self._cause("made", spans[-1])] if spans else []

    def is_loop_variable(self, name: str, span: int) -> bool:
        """Whether a statement stores a name as one that it gives the items of a loop: none of them is new."""
        from gradscope.frames.names.stored_names import loop_variables

        row = self.index.recording.spans[span]
        known = loop_variables(self.index.recording.files[row.file].text) if row.file >= 0 else ()
        return any((line, name) in known for line in range(row.stmt_line, row.stmt_end_line + 1))

    def is_stored_again(self, tensor: int) -> bool:
        """Whether the statement that stored a tensor stored others under the same name: in the runs of a loop."""
        text = self.index.recording.text
        stores = [row for row in self._stores.get(tensor, ()) if not self.is_loop_variable(text(row[0]), row[2])]
        if not stores:
            return False
        name, _, span = stores[-1]
        statement = self.index.statement_of_span[span]
        return any(
            other != tensor
            for other, rows in self._stores.items()
            for row in rows
            if row[0] == name and self.index.statement_of_span[row[2]] == statement
        )

    @cached_property
    def kept_after_passes(self) -> list[KeptAfterPasses]:
        """Results that pile up with graphs that passes have used up."""
        from gradscope.analysis.facts.memory.kept_after_passes import kept_after_passes

        return kept_after_passes(self.index, self.passes)

    @cached_property
    def loads(self) -> dict[int, list[tuple[int, int]]]:
        """For each tensor the ops whose statements read it under a name, with a span of the statement."""
        found: dict[int, list[tuple[int, int]]] = {}
        bindings = self.index.recording.bindings
        columns = (bindings.column(name) for name in ("tensor", "op", "span", "kind"))
        for tensor, op, span, kind in zip(*columns, strict=True):
            if kind == BindingKind.LOAD:
                found.setdefault(tensor, []).append((op, span))
        return found

    @cached_property
    def names_held(self) -> dict[int, list[tuple[int, int, int]]]:
        """For each tensor the names under which it was seen: name, op and span, in order."""
        found: dict[int, list[tuple[int, int, int]]] = {}
        bindings = self.index.recording.bindings
        columns = (bindings.column(name) for name in ("name", "tensor", "op", "span"))
        for name, tensor, op, span in zip(*columns, strict=True):
            found.setdefault(tensor, []).append((name, op, span))
        return found

    @cached_property
    def bindings_of(self) -> dict[int, list[int]]:
        """For each tensor the rows of ``bindings`` that name it, in order."""
        found: dict[int, list[int]] = {}
        for row, tensor in enumerate(self.index.recording.bindings.column("tensor")):
            found.setdefault(tensor, []).append(row)
        return found

    @cached_property
    def _stores(self) -> dict[int, list[tuple[int, int, int]]]:
        """For each tensor the stores that were seen: name, op and span, in order.

        While ``x = x * 2 + 1`` runs its name still holds what the statement read under it: that is no store of its.
        """
        found: dict[int, list[tuple[int, int, int]]] = {}
        statements, read = self.index.statement_of_span, set[tuple[int, int, int]]()
        bindings = self.index.recording.bindings
        columns = (bindings.column(name) for name in ("name", "tensor", "op", "span", "kind"))
        for name, tensor, op, span, kind in zip(*columns, strict=True):
            at = (name, tensor, statements[span]) if span >= 0 else None
            if at is not None and kind == BindingKind.LOAD:
                read.add(at)
            elif at is not None and kind == BindingKind.STORE and at not in read:
                found.setdefault(tensor, []).append((name, op, span))
        return found

    def causes_at(self, role: CauseRole, places: Iterable[Lines]) -> list[Cause]:
        """Lines of the user's source that nothing was recorded for, as causes."""
        return [self.cause_of_line(role, *place) for place in places]

    def cut_causes(self, ops: Iterable[int]) -> list[Cause]:
        """The lines of cuts."""
        found: list[Cause] = []
        for op in (one for one in ops if one >= 0):
            checkpoint = self.cuts.reentrant.around(op)
            if checkpoint is not None and checkpoint.span >= 0:
                if (told := self.cuts.reentrant.told_at(checkpoint)) is not None:
                    found.append(self.cause_of_line("set", *told, told[1], ""))
                found += self.cause_of_event("cut", checkpoint)
            else:
                found += self.causes_at("returned", self.hooks.returns_around(op))
                found += self.cause("cut", self.cuts.line_to_change(op))
                if self.cuts.integers_written(op) is not None:
                    found += self.cause("write", op)
        return found

    def made(self, tensor: int) -> str:
        """Where a tensor came from: ``made at line 3 by Tensor.cuda from x``."""
        index = self.index
        op = index.recording.tensors.column("op")[tensor]
        if index.recording.tensors.column("flags")[tensor] & EXTERNAL or op >= index.op_count:
            return "which no call that was seen made"
        taken = dict.fromkeys(self.names.at(use, op) for use in index.uses.of(op))
        source = f" from {listed(list(taken))}" if taken else ""
        return f"made at line {index.op_line(op)} by {index.call_name(op)}{source}"

    def made_at(self, tensor: int) -> list[Cause]:
        """The line that made a tensor; empty where none was seen."""
        tensors = self.index.recording.tensors
        return [] if tensors.column("flags")[tensor] & EXTERNAL else self.cause("made", tensors.column("op")[tensor])

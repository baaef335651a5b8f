"""How often each statement ran.

Nothing in a recording says where a run begins. What does: a call that the statement itself makes comes once a run; a
statement outside of loops and functions runs once; and one that makes no such call (``net(x)`` makes any number, a
comprehension too) runs as often as its neighbours in one block; and what its loop runs each time parts the runs of one
that stands there alone behind a condition.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from functools import cached_property
from math import ceil, gcd

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.statement_counts.calls_a_run import CallsARun
from gradscope.analysis.facts.statement_counts.loops_cut_short import LoopsCutShort
from gradscope.analysis.facts.statement_counts.module_calls import ModuleCalls
from gradscope.analysis.facts.statement_counts.pickled_runs import is_by_pickle, pickled_runs
from gradscope.analysis.facts.statement_counts.resumed_runs import runs_behind_breaks
from gradscope.analysis.facts.statement_counts.separated_runs import separated_runs
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.blocks.statement_blocks import Blocks, parse_blocks
from gradscope.frames.statements import parse_source
from gradscope.recording import NONE
from gradscope.recording.flags import BELOW, CONTINUED, MADE, RAISED
from gradscope.recording.rows import BindingKind, EventKind, Field, OpKind, Span

_SET_IN_MODULES = "torch._set_grad_enabled"
"""What torch's own Python below a module sets grad mode with, any number of times; a ``with`` has another name."""

_OF_LAYERS = (OpKind.CALL, OpKind.SET)
"""What layers do any number of times in one call of a module: a lazy one sets the memory of its parameters."""
_STEP = "step("


class StatementRuns:
    """Runs of the statements of a recording.

    Args:
        index: The recording.
        slots: For each tensor an id that the same results of a call have in all runs (see :mod:`.slots`).
    """

    def __init__(self, index: Index, slots: array[int]) -> None:
        self._index = index
        self._slots = slots
        self._pickling = set[int]()
        """Statements that pickle, or bring back what was."""

    @cached_property
    def of(self) -> list[int]:
        """For each statement how often it ran; of one whose runs nothing shows, how often at most."""
        index = self._index
        direct, divisors, some = self._counts()
        for at, count in runs_behind_breaks(index).items():
            direct[at] = count
        if direct[self._raised_before_its_call]:
            direct[self._raised_before_its_call] += 1
        lines: dict[tuple[int, int], int] = {}
        lines |= {(statement.file, statement.line): at for at, statement in enumerate(index.statements)}
        runs, unsure, alone = direct[:], list[int](), dict[int, list[int]]()
        cut_short, applied = LoopsCutShort(index), self._applied()
        for at, statement in enumerate(index.statements):
            if at == NOWHERE:
                continue
            blocks = self._blocks[statement.file]
            is_header = statement.line in blocks.headers
            if direct[at] and not is_header and at not in self._clearing:
                continue
            if statement.line in blocks.once:
                runs[at] = 1
                continue
            beside = (blocks.headers if is_header else blocks.together).get(statement.line, [])
            near = {line: lines.get((statement.file, line), NOWHERE) for line in beside}
            ran = {line: direct[other] for line, other in near.items() if other not in self._clearing}
            nearest = sorted((abs(line - statement.line), count) for line, count in ran.items() if count)
            most = gcd(divisors[at], blocks.at_most.get(statement.line, 0))
            if most and cut_short.around(statement.file, statement.line):
                most = 0
            if not nearest and not direct[at] and not some[at] and not is_header:
                others = (lines.get((statement.file, line), NOWHERE) for line in blocks.between.get(statement.line, ()))
                alone[at] = [other for other in others if direct[other]]
            if not nearest and not direct[at] and not some[at] and most:
                unsure.append(at)
            asked = direct[at] - self._ends_of_loops[at] if is_header and not nearest else direct[at]
            runs[at] = nearest[0][1] if nearest else asked or some[at] or max(applied[at], most) or 1
        for at, count in pickled_runs(index, self._pickling.intersection(unsure)).items():
            runs[at] = count
        unsure = [at for at in unsure if at not in self._pickling]
        by_modules = ModuleCalls(index, self.is_repeated, self._is_chosen).of(unsure)
        for at in (at for at in unsure if at not in by_modules):
            if by_neighbours := self.beside(at, by_modules):
                by_modules[at] = by_neighbours
        for at, count in self._by_parameters([at for at in unsure if at not in by_modules and runs[at] > 1]).items():
            runs[at] = count if not runs[at] % count else runs[at]
        for at, count in (
            by_modules | separated_runs(index, {at: those for at, those in alone.items() if those})
        ).items():
            runs[at] = count
        for at, count in self._raised_in_layers.items():
            runs[at] += count
        return runs

    @cached_property
    def _clearing(self) -> set[int]:
        """Statements that do nothing but clear gradients: where there are none yet a run of such a one is not seen."""
        index, funcs = self._index, self._index.recording.ops.column("func")
        clears = {func for func in set(funcs) if index.recording.text(func).endswith(".zero_grad")}
        if not clears:
            return set()
        did = set(zip(index.op_statement, funcs, strict=False))  # (there is one statement more, of the end)
        return {one for one, func in did if func in clears} - {one for one, func in did if func not in clears}

    @cached_property
    def _raised_before_its_call(self) -> int:
        """The statement at which an error left the program before it called what it called in the runs before.

        Another of its function had run since: what it calls may have done so in the same run. (A region that is left
        by the error sets its mode back.)
        """
        index, outcome = self._index, self._index.recording.info.outcome
        if outcome.kind != "exception":
            return NOWHERE
        places = [(one.file, int(one.line)) for one in index.statements]
        at = places.index((outcome.file, outcome.line)) if (outcome.file, outcome.line) in places else NOWHERE
        function = index.statements[at].file, index.statements[at].function
        kinds = index.recording.ops.column("kind")
        for op in (op for op in range(index.op_count - 1, -1, -1) if kinds[op] != OpKind.MODE):
            other = index.op_statement[op]
            if other == at:
                return NOWHERE
            if (index.statements[other].file, index.statements[other].function) == function:
                return at
        return NOWHERE

    @cached_property
    def _raised_in_layers(self) -> Counter[int]:
        """For each statement the runs that a module's layer ended by raising, where the layer gave results in others.

        They are counted beside these: of each of several layers there are as many calls as the run came to.
        """
        index, found = self._index, Counter[int]()
        columns = (index.recording.ops.column(name) for name in ("span", "func", "flags"))
        rows = list(zip(*columns, strict=True))
        raised = [op for op, (_, _, flags) in enumerate(rows) if flags & RAISED]
        layers = {(span, func) for span, func, flags in rows if flags & BELOW} if raised else set()
        for op in raised:
            if rows[op][:2] in layers:
                found[index.op_statement[op]] += index.weights[op]
        return found

    @cached_property
    def again(self) -> list[int]:
        """For each statement how often it ran inside backward passes, beside its runs outside.

        In a checkpointed function that ran again, or in the backward of a Function.
        """
        index, runs = self._index, [0] * len(self._index.statements)
        events = Events(index).of(EventKind.RECOMPUTED)
        if not events:
            return runs
        places, before = list(index.recording.spans), Counter[tuple[Span, str]]()
        for (span, _, func, _, _), count in self._calls().items():
            if span >= 0:
                before[places[span], index.twin(func)] += count
        inside = Counter[tuple[int, str]]()
        for event in (event for event in events if event.span >= 0 and not self.is_repeated(event.span)):
            inside[event.span, str(event.detail.get("function")).rstrip("_")] += event.subject
        a_run = CallsARun(index, {index.statement_of_span[span] for span, _ in inside})
        for (span, function), times in inside.items():
            statement, call = index.statement_of_span[span], (places[span], function)
            if outside := before[call]:  # (checkpoint leaves a function as soon as it has what it needs, maybe in the
                calls = a_run.of(statement, call, self.of[statement], outside, times)  # midst of a line)
                runs[statement] = max(runs[statement], ceil(times / calls))
        return self._again_with_neighbours(runs)

    @cached_property
    def inside(self) -> list[str]:
        """For each statement what ran it inside backward passes: ``checkpoint``, the names of Functions' backwards."""
        index, callers = self._index, defaultdict[int, set[str]](set)
        for event in Events(index).of(EventKind.RECOMPUTED):
            if event.span >= 0:
                callers[index.statement_of_span[event.span]].add(str(event.detail.get("within") or "checkpoint"))
        return [" and ".join(sorted(callers[at])) or "checkpoint" for at in range(len(index.statements))]

    def _again_with_neighbours(self, runs: list[int]) -> list[int]:
        """A statement ran again as often as those behind it in its block, whatever it calls itself.

        As often as those before it as well where no function is left in its midst: reentrant checkpoint runs all of it.
        """
        index, leaves_early = self._index, bool(Events(self._index).of(EventKind.CHECKPOINT))
        by_line: dict[tuple[int, int], int] = {}
        by_line |= {(one.file, one.line): runs[at] for at, one in enumerate(index.statements) if runs[at]}
        for at, one in enumerate(index.statements):
            beside = self._blocks[one.file].together.get(one.line, ())
            bound_to_run = (line for line in beside if line >= one.line or not leaves_early)
            runs[at] = max([runs[at], *(by_line.get((one.file, line), 0) for line in bound_to_run)])
        return runs

    def beside(self, statement: int, known: dict[int, int]) -> int:
        """How often a statement ran by those of its block whose runs are known; 0 where none is."""
        here, index = self._index.statements[statement], self._index
        lines = self._blocks[here.file].together.get(here.line, ())
        by_line = {
            index.statements[at].line: times for at, times in known.items() if index.statements[at].file == here.file
        }
        return max((by_line.get(index.line(here.file, line), 0) for line in lines), default=0)

    @cached_property
    def _blocks(self) -> list[Blocks]:
        return [parse_blocks(file.text if file.is_user else "") for file in self._index.recording.files]

    def _counts(self) -> tuple[list[int], list[int], list[int]]:
        """For each statement the most calls that one of its spans makes itself; the divisor of all the others; how
        often it did what it does in some of its runs only.
        """
        index = self._index
        statements = index.statement_of_span
        direct, divisors = [0] * len(index.statements), [0] * len(index.statements)
        totals: dict[tuple[Span, str], int] = {}
        chosen: dict[int, dict[tuple[int, int], int]] = {}
        places = list(index.recording.spans)
        steps = self._begun(EventKind.STEP)
        checkpoints = self._begun(EventKind.CHECKPOINT) + self._begun(EventKind.REENTRANT_CHECKPOINT)
        for (span, inner, func, kind, is_below), count in self._calls().items():
            statement = statements[span]
            if statement == NOWHERE:
                continue
            if self.is_repeated(span):
                continue
            if is_below and inner == NONE and ((span in steps and self._steps(span)) or span in checkpoints):
                direct[statement] = max(direct[statement], steps[span])
                continue
            if inner != NONE or is_by_pickle(index, span, func):
                self._pickling.update([statement] if inner == NONE else [])
                divisors[statement] = gcd(divisors[statement], count)
            elif not is_below or (kind not in _OF_LAYERS and index.recording.text(func) != _SET_IN_MODULES):
                key = (places[span], self._called(places[span], func))
                totals[key] = totals.get(key, 0) + count
                choice = self._blocks[places[span].file].chosen((places[span].line, places[span].col))
                if choice is None:
                    direct[statement] = max(direct[statement], totals[key])
                else:
                    known = chosen.setdefault(statement, {})
                    known[choice] = max(known.get(choice, 0), totals[key])
        for span, times in checkpoints.items():  # (what a lambda computes that it was given is below no call)
            if span >= 0 and statements[span] != NOWHERE and not self.is_repeated(span):
                direct[statements[span]] = max(direct[statements[span]], times)
        self._divide_by_results(divisors)
        return direct, divisors, [_most_chosen(chosen.get(at, {})) for at in range(len(direct))]

    def _called(self, place: Span, func: int) -> str:
        """What tells the calls of one place apart: it may call one function now and another then (``act(x)``), and
        what Python asks for by itself (``x[0] += 1`` takes and puts at one place) is not what stands there.

        A call that was specialised has two spans of one place.
        """
        is_call = ((place.line, place.col), (place.end_line, place.end_col)) in self._blocks[place.file].calls
        is_of_python = self._index.recording.text(func).endswith("__")
        return "" if is_call and not is_of_python else self._index.twin(func)

    def _begun(self, kind: EventKind) -> Counter[int]:
        """How often a call of torch's began at each span that runs code of the user's, which parts the calls below it:
        a step that is recorded op by op (it has a closure), a checkpoint.
        """
        begun = Counter[int]()
        for event in (event for event in Events(self._index).of(kind) if event.detail.get("begins", True)):
            begun[event.span] += self._index.weights[event.op]
        return begun

    def _steps(self, span: int) -> bool:
        """Whether a call in the source is a step, by its name, and not one that takes any number of them (``fit``)."""
        place = self._index.recording.spans[span]
        return _STEP in self._index.recording.source(place.file, place.line, place.end_line)

    def is_repeated(self, span: int) -> bool:
        """Whether a call may be made more than once in a run of its statement: it is in a comprehension."""
        if span < 0:  # a thread that has no frame of the program's
            return False
        place = self._index.recording.spans[span]
        return self._blocks[place.file].is_repeated((place.line, place.col), (place.end_line, place.end_col))

    def _applied(self) -> Counter[int]:
        """For each statement the most that one of its calls applied a Function that gave what its forward had made.

        Each was seen by that, when a result was used; all results of one have one node. Where one call alone applies a
        Function, it did so as often as the forward made such a result: without grad mode around it there is no node.
        """
        index, found = self._index, Counter[int]()
        spans, flags = (index.recording.ops.column(name) for name in ("span", "flags"))
        made_at = index.recording.tensors.column("op")
        columns = (index.recording.changes.column(name) for name in ("op", "tensor", "field", "after"))
        made, callers = dict[tuple[int, int], int](), defaultdict[int, set[int]](set)
        for op, tensor, field, node in zip(*columns, strict=True):
            if field == Field.GRAD_FN and node >= 0 and op < index.op_count and flags[op] & MADE:
                made[spans[op], node] = index.weights[op]
                is_own = self._is_in_forward(spans[made_at[tensor]], index.func(op))
                callers[spans[made_at[tensor]]].add(spans[op] if is_own else NONE)
        times = Counter[int]()
        for (span, _), count in made.items():
            times[span] += count
        alone = {inside: next(iter(outside)) for inside, outside in callers.items() if len(outside) == 1}
        for (inside, _, _, _, is_below), count in self._calls().items() if alone else ():
            if alone.get(inside, NONE) >= 0 and not is_below and not self.is_repeated(inside):
                times[alone[inside]] = max(times[alone[inside]], count)
        for span, count in times.items():
            statement = index.statement_of_span[span]
            found[statement] = max(found[statement], 0 if self.is_repeated(span) else count)
        return found

    def _is_in_forward(self, span: int, applied: str) -> bool:
        """Whether a call stands in the ``forward`` of the Function that another applies: ``Square.apply``."""
        recording, name = self._index.recording, applied.removesuffix(".apply")
        function = recording.text(recording.spans[span].function) if span >= 0 else ""
        return function.endswith(f"{name}.forward")

    def choice(self, span: int) -> tuple[int, int, int] | None:
        """Of a call that not every run comes to: the choice that it stands in, which part of it, of how many."""
        place = self._index.recording.spans[span]
        blocks = self._blocks[place.file]
        found = blocks.chosen((place.line, place.col))
        if found is None:
            return None
        return *found, max(len(blocks.choices[found[0]]), 2)  # (there are runs without what follows an ``and``)

    def _is_chosen(self, place: Span) -> bool:
        """Whether not every run comes to a call that stands somewhere."""
        return self._blocks[place.file].chosen((place.line, place.col)) is not None

    def _divide_by_results(self, divisors: list[int]) -> None:
        """Take the results of modules' layers into account: each layer makes one a run.

        One that gives back what it was given in some of its calls (dropout, of a model that is evaluated) made fewer
        results than it had calls: these are counted.
        """
        ops, made_at = self._index.recording.ops, self._index.recording.tensors.column("op")
        kinds, flags, inner, count = ops.column("kind"), ops.column("flags"), ops.column("inner"), self._index.op_count
        results = Counter(self._slots)
        for op, times in self._index.recording.alike:
            for tensor in self._index.made.of(op):
                results[self._slots[tensor]] += times
        for slot, tensor in dict(zip(self._slots, range(len(self._slots)), strict=True)).items():
            op = made_at[tensor]
            is_layer = slot >= 0 and op < count and flags[op] & BELOW and kinds[op] == OpKind.CALL and inner[op] == NONE
            if is_layer and not self.is_repeated(ops.column("span")[op]):
                statement, call = self._index.op_statement[op], (ops.column("span")[op], ops.column("func")[op])
                divisors[statement] = gcd(divisors[statement], self._without_result.get(call, results[slot]))

    @cached_property
    def _without_result(self) -> dict[tuple[int, int], int]:
        """For each place and function that in some calls there made no tensor, in others did, the number of calls."""
        index, made, calls = self._index, Counter[tuple[int, int]](), Counter[tuple[int, int]]()
        columns = (index.recording.ops.column(name) for name in ("span", "func", "flags", "inner"))
        for op, (span, func, flags, inner) in enumerate(zip(*columns, strict=True)):
            if flags & BELOW and not flags & (MADE | CONTINUED) and inner == NONE:
                calls[span, func] += index.weights[op]
                made[span, func] += index.weights[op] if len(index.made.of(op)) else 0
        return {call: times for call, times in calls.items() if 0 < made[call] < times}

    @cached_property
    def _ends_of_loops(self) -> list[int]:
        """For each statement how often an iterator of torch's was asked and gave nothing more."""
        index, ends = self._index, [0] * len(self._index.statements)
        died, funcs = index.recording.tensors.column("died"), index.recording.ops.column("func")
        asks = {func for func in set(funcs) if index.recording.text(func).endswith(".__next__")}
        for op in (op for op, func in enumerate(funcs) if func in asks) if asks else ():
            if all(0 <= died[made] <= op + 1 for made in index.tensors_made(op)):
                ends[index.op_statement[op]] += index.weights[op]
        return ends

    def _by_parameters(self, statements: list[int]) -> dict[int, int]:
        """How often statements ran by what ran below them in modules: each run uses ``self.body.0.weight`` once.

        Layers that are alike are calls of one function, as often as there are of them; by the names that the function
        has for their parameters they are told apart, whatever module it is that it runs in.
        """
        index = self._index
        if not statements or len(index.recording.left_out):
            return {}
        names, wanted = self._names_of_members(statements), frozenset(statements)
        uses: dict[int, Counter[tuple[int, int]]] = {}
        stretches, before = Counter[int](), NOWHERE
        columns = (index.recording.ops.column(name) for name in ("func", "flags", "inner"))
        for op, (at, func, flags, inner) in enumerate(zip(index.op_statement, *columns, strict=True)):
            stretches[at] += index.weights[op] if at != before else 0
            before = at
            if at in wanted and flags & BELOW and not flags & (MADE | CONTINUED) and inner == NONE:
                known = [names[at, tensor] for tensor in index.uses.of(op) if (at, tensor) in names]
                if known:
                    uses.setdefault(at, Counter())[func, known[0]] += index.weights[op]
        ran = {}
        for at, counter in uses.items():
            counts = Counter(counter.values())
            ran[at] = min(counts, key=lambda count: (-counts[count], count))
        # (of several modules of which each run takes one, ``self.heads[name](x)``, each was used in some of the runs)
        return {at: count for at, count in ran.items() if count >= stretches[at]}

    def _names_of_members(self, statements: list[int]) -> dict[tuple[int, int], int]:
        """For each statement and parameter the name (a text) that it has there: a part of what the statement reads."""
        index = self._index
        functions: dict[tuple[int, int], list[int]] = {}
        read: dict[int, tuple[str, ...]] = {}
        for at in statements:
            text, line = index.recording.files[index.statements[at].file].text, index.statements[at].line
            loads = {name for one in parse_source(text).statements if one.line == line for name in one.loads}
            read[at] = tuple(f"{name}{sign}" for name in loads - {"self", "cls"} for sign in ".[")
            functions.setdefault((index.statements[at].file, index.statements[at].function), []).append(at)
        names: dict[tuple[int, int], int] = {}
        spans, bindings = index.recording.spans, index.recording.bindings
        columns = (bindings.column(name) for name in ("name", "tensor", "span", "kind"))
        for name, tensor, span, kind in zip(*columns, strict=True):
            if kind == BindingKind.MEMBER and span >= 0:
                place = spans[span]
                for at in functions.get((place.file, place.function), ()):
                    if index.recording.text(name).startswith(read[at]):
                        names.setdefault((at, tensor), name)
        return names

    def _calls(self) -> dict[tuple[int, int, int, int, int], int]:
        """How often each function was called from each place; what ``--max-ops`` left out is counted with the rest."""
        recording = self._index.recording
        counts: dict[tuple[int, int, int, int, int], int] = {}
        at: dict[tuple[int, int], tuple[int, int, int, int, int]] = {}
        further: Counter[tuple[int, int]] = Counter()
        columns = (recording.ops.column(name) for name in ("span", "inner", "func", "kind", "flags"))
        apart = self._raised_in_layers
        for (span, inner, func, kind, flags), count in self._index.times_each(zip(*columns, strict=True)).items():
            if flags & RAISED and self._index.statement_of_span[span] in apart:
                continue
            if not flags & (MADE | CONTINUED):  # found by name, in some of the runs only; in one run, any number
                key = (span, inner, func, kind, flags & BELOW)
                counts[key] = counts.get(key, 0) + count
                at[span, func] = key
            elif flags & CONTINUED:
                further[span, func] += count
        seen = {pair: counts[key] for pair, key in at.items()}
        for row in recording.left_out:
            pair = (row.span, row.func)
            known, more = seen.get(pair, 0), further[pair]
            if more and not known:
                continue  # all that was seen of them were further ops of calls that have one already
            key = at.get(pair, (row.span, NONE, row.func, int(OpKind.CALL), 0))
            counts[key] = counts.get(key, 0) + (row.left_out * known // (known + more) if more else row.left_out)
        return counts


def _most_chosen(counts: dict[tuple[int, int], int]) -> int:
    """Of several choices the most often taken, all its parts together."""
    taken = Counter[int]()
    for (choice, _), count in counts.items():
        taken[choice] += count
    return max(taken.values(), default=0)

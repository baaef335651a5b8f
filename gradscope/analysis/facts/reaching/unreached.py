"""Why a backward pass did not reach a tensor."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from gradscope.analysis.facts.done_in_passes import DoneInPasses
from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.reaching.called_cuts import call_of_cut
from gradscope.analysis.facts.reaching.equal_terms import cut_of_equal_terms
from gradscope.analysis.facts.reaching.kept_by_caches import kept_by_cache
from gradscope.analysis.facts.reaching.left_values import LeftValues
from gradscope.analysis.facts.reaching.taken_by_indices import taken_by_indices
from gradscope.analysis.facts.reaching.writes_into_leaves import WritesIntoLeaves
from gradscope.analysis.facts.reaching.writes_past_graph import WritesPastGraph
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import WALK_LIMIT, Flow, Step
from gradscope.analysis.facts.tracking.left_in_checkpoints import way_out
from gradscope.analysis.index import Index
from gradscope.analysis.worded_lines import numbers
from gradscope.analysis.wording import listed
from gradscope.recording import NONE
from gradscope.recording.flags import GRAD, RAISED
from gradscope.recording.rows import OpKind

if TYPE_CHECKING:
    from gradscope.analysis.facts.derivatives.function_sources import FunctionSources, Lines
    from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook
    from gradscope.analysis.facts.reaching.applied_functions import InsideFunctions
    from gradscope.analysis.facts.reaching.estimates_in_losses import EstimatesInLosses
    from gradscope.analysis.facts.reaching.given_none import GivenNone
    from gradscope.analysis.facts.reaching.run_in_regions import RunInRegions
    from gradscope.analysis.facts.reaching.straight_through import StraightThrough
    from gradscope.analysis.facts.reaching.wrapped_parameters import WrappedParameters
    from gradscope.analysis.facts.tracking.grad_regions import Region

WALKED_IN_ALL = 20 * WALK_LIMIT
"""Tensors followed for all misses of a run (10 to 20 s at the worst); a miss that is left then is not explained."""


class Unreached(NamedTuple):
    """Why a tensor got no gradient from a pass."""

    why: str
    cut_op: int = NONE
    """The op that cut the way from it to the root; NONE where none did."""
    unused: bool = False
    """Whether that may be meant: the root was not made from it, as far as is known, or others were asked for."""
    none_at: tuple[Lines, ...] = ()
    """Where the backward of a custom Function gave it None."""
    changed_at: tuple[Lines, ...] = ()
    """Lines to change before the cut's own: where a parameter was made of what was computed from it, a new leaf; or
    the statement of a region that was meant for others."""
    reached: bool = False
    """The pass came to it, and it had no gradient when the pass was over: a hook may have taken it."""
    is_kept: bool = False
    """A line keeps what was cut for calls elsewhere: the cut itself is right where it is."""
    taken: bool = False
    """It was seen that one took it."""
    copied: bool = False
    """A copy of it was used in its place."""
    evaluated: bool = False
    """It was used without grad mode alone, and nothing of that came to the root."""
    by_integers: bool = False
    """What cut its way made integers or truth values of what was computed from it, and nobody else is named for it."""
    asked: bool = False
    """It is that of a pass that code inside this one began, which returns it."""


class _Pass(NamedTuple):
    """A backward pass whose misses are explained."""

    op: int
    root: str
    asked_for: str
    """Leaves that the pass was called with (``inputs=``): it gives gradients to no other."""
    steps: dict[int, Step]
    """What the root was made from (see :meth:`Flow.origins`)."""
    before: int
    """The pass before it, or NONE."""
    built: tuple[int, ...]
    """The ops before it that built tensors behind the root from plain values, in the order of the run."""


class Reasons:
    """Explains misses; what several of them need is computed once."""

    def __init__(self, index: Index, names: BestNames, cuts: Cuts, flow: Flow, passes: Passes) -> None:
        self._index = index
        self._names = names
        self._cuts = cuts
        self._flow = flow
        self._passes = passes
        self._leaves_by_pass: dict[int, frozenset[int]] = {}
        self._walked_before = flow.walked

    @cached_property
    def left_values(self) -> LeftValues:
        """Where values left torch."""
        return LeftValues(self._index, self._flow, self._events)

    @cached_property
    def _done_inside(self) -> DoneInPasses:
        return DoneInPasses(self._index)

    @cached_property
    def _past_graph(self) -> WritesPastGraph:
        return WritesPastGraph(self._index, self._events, self._passes)

    @cached_property
    def _given_none(self) -> GivenNone:
        from gradscope.analysis.facts.reaching.given_none import GivenNone

        return GivenNone(self._index, self._passes, self._functions)

    @cached_property
    def _functions(self) -> FunctionSources:
        from gradscope.analysis.facts.derivatives.function_sources import FunctionSources

        return FunctionSources(self._index, self._events)

    @cached_property
    def _events(self) -> Events:
        return Events(self._index)

    @property
    def _is_exhausted(self) -> bool:
        return self._flow.walked - self._walked_before >= WALKED_IN_ALL

    def of_pass(self, op: int, before: int, roots: list[int], missed: list[int]) -> dict[int, Unreached]:
        """Why a pass missed some tensors; those that it would cost too much to look into are left out.

        Args:
            op: The pass.
            before: The pass before it, or NONE.
            roots: The tensors that it started from.
            missed: The tensors without a gradient.
        """
        if self._is_exhausted:
            return {}
        steps = self._flow.origins_of_all(roots, op)
        names = self._named(roots, op), self._named(self._asked_for(op, roots), op)
        this = _Pass(op, *names, steps, before, self.left_values.built_among(steps))
        explained: dict[int, Unreached] = {}
        for tensor in missed:
            if self._is_exhausted:
                break
            explained[tensor] = self._explain(tensor, this)
        return explained

    def _named(self, tensors: list[int], op: int) -> str:
        return listed([self._names.at(tensor, op) for tensor in tensors])

    def _asked_for(self, op: int, roots: list[int]) -> list[int]:
        taken = (tensor for tensor in self._index.uses.of(op) if tensor not in roots)
        return [tensor for tensor in taken if self._index.is_leaf_with_grad(tensor, op)]

    def _explain(self, tensor: int, this: _Pass) -> Unreached:
        line = self._done_inside.cleared_at(tensor, this.op)
        if line is not None and tensor in self._leaves_behind(this.op):
            why = f"line {line}, which ran inside the pass, set its gradient to None"
            return Unreached(why, reached=True, taken=True)
        if (line := self._done_inside.asked_at(tensor, this.op)) is not None:
            return Unreached(f"line {line}, which ran inside the pass, asks for its gradient", taken=True, asked=True)
        if self._index.custom_functions and not this.asked_for:
            given_none = self._given_none.why(tensor, this.op)
            if given_none is not None:
                why, none_at, only_writes, keeps = given_none
                is_dummy = only_writes and tensor not in self._events.in_optimizers
                return Unreached(why, none_at=none_at, unused=is_dummy or keeps)
        if this.asked_for and tensor in self._leaves_behind(this.op):
            return self._asked_for_others(this)
        if tensor not in this.steps:
            return self._explain_unused(tensor, this)
        way = self._flow.path(this.steps, tensor)
        cut = next((step.op for step in way if step.loses), NONE)
        if cut >= 0 and self._flow.is_copy(cut):
            line, uses = self._index.op_line(cut), self._flow.uses_of(tensor, this.op)
            if any(not self._flow.is_copy(op) and not self._is_only_held(op) for op in uses):
                explained = self._explain_unused(tensor, this)  # (what it was used for itself led somewhere else)
                why = f"all of it that went into {this.root} was copied at line {line}"
                return Unreached(why, cut, unused=True, copied=True) if explained.unused else explained
            return Unreached(f"only the copy that line {line} made of it was used", cut, unused=True, copied=True)
        if cut >= 0 and (asked := self._asked_without(tensor, this)) >= 0:
            roots, others = self._index.roots.get(asked, []), self._named(self._asked_of(asked), asked)
            where = f"line {self._index.op_line(asked)} asks {self._named(roots, asked)}, which leads to it"
            why = f"{where}, for the gradient of {others} only, and gets None"
            return Unreached(why, changed_at=(self._lines_of(asked),))
        if cut >= 0 and (around := self._passed_by(tensor, this)) is not None:
            line = self._index.op_line(around.op)
            shown, takes = (self._names.at(one, around.op) for one in (around.shows[0], around.takes))
            return Unreached(
                f"line {line} goes on with the values of {shown}, and hands its gradient to {takes}", around.op
            )
        if cut >= 0 and (wrapped := self._wrapped(way, tensor)) is not None:
            return wrapped
        if cut >= 0 and (inside := self._in_regions.at(tensor, way)) is not None:
            statement, region = inside
            where = f"line {statement.line}, which runs it inside the {region.mode} of line {region.line}"
            return Unreached(f"cut at {where}", cut, changed_at=(statement,))
        if cut >= 0 and (by_hook := self._returned_by_hook(cut)) is not None:
            return by_hook
        if cut >= 0 and (estimated := self._shown_by_estimate(tensor, this, cut)) is not None:
            return estimated
        if cut >= 0:
            other = cut_of_equal_terms(self._index, self._cuts, cut)
            cut = other if other >= 0 else cut
            where = self._cuts.where(cut)
            if (cache := kept_by_cache(self._index, self._cuts, way)) is not None:
                opened = self._cuts.regions.describe(cut)
                under = f" under {opened.mode}" if opened is not None else ""
                why = f"line {cache.line} keeps what was computed{under} for later calls of {cache.function}"
                return Unreached(why, cut, changed_at=(cache,), is_kept=True)
            called = call_of_cut(self._index, self._cuts, way)
            if called is not None:
                return Unreached(f"cut at {where}, in what line {called.line} calls", cut, changed_at=(called,))
            if other < 0 and (by := taken_by_indices(self._index, self._cuts, way)) is not None:
                why = f"cut at {where}, and line {by.line} takes items by that"
                is_another = by.line != self._index.op_line(cut)
                return Unreached(why, cut, changed_at=(by,) if is_another else (), by_integers=True)
            is_by_integers = self._cuts.kind(cut) == "not_differentiable"
            return Unreached(f"cut at {where}", cut, by_integers=is_by_integers)
        if way and not self._index.requires_grad(tensor, way[0].op):
            line = self._index.op_line(way[0].op)
            return Unreached(f"it did not require grad when line {line} used it")
        if tensor in self._leaves_behind(this.op):
            return Unreached("the graph leads to it, and the pass left it without a gradient", reached=True)
        kinds = self._index.recording.ops.column("kind")
        if by_grad := next((step.op for step in way if kinds[step.op] == OpKind.GRAD), 0):
            line = self._index.op_line(by_grad)  # (what is only added to an output has no part in its gradient)
            return Unreached(f"used for the gradient of line {line}, which does not depend on it", unused=True)
        if this.asked_for and tensor not in self._index.uses.of(this.op):
            return self._asked_for_others(this)
        if (used := self._inside_functions.on(way, self._index.root_nodes(this.op))) is not None:
            returned = (used.returned_at,) if used.returned_at is not None else ()
            return Unreached(used.why, none_at=returned, changed_at=(used.applied_at,))
        if (out := way_out(self._cuts, way, this.op)) is not None and out[0].span >= 0:
            call, made = out[0], self._index.op_line(self._index.made_by(out[1]))
            why = f"line {made} computes with it inside the reentrant checkpoint of line "
            why += f"{self._index.span_line(call.span)}, whose function has no graph in the forward pass, and keeps the"
            return Unreached(f"{why} result beside what it returns", changed_at=(self._lines_of_span(call.span),))
        left = next((step.op for step in way if not self._is_linked(step, this)), way[0].op if way else NONE)
        return Unreached(f"the way from it to {this.root} leaves what was seen at line {self._index.op_line(left)}")

    def _asked_without(self, tensor: int, this: _Pass) -> int:
        """The last autograd.grad() that gave nothing, and from whose root the graph leads to a leaf; else NONE.

        One that gave something was made for that, and one that raised gave nothing that the program went on with. It
        asked for what was made of the leaf on its way to the root of the pass: others have no part in that.
        """
        flags = self._index.recording.ops.column("flags")
        for op in reversed(self._index.of_kind(OpKind.GRAD)):
            gave = self._index.tensors_made(op) or self._index.results.of(op)
            if op > this.op or flags[op] & RAISED or gave or tensor not in self._leaves_behind(op):
                continue
            on_the_way = (one for one in self._asked_of(op) if one in this.steps)
            if any(tensor in self._flow.origins(one, op) for one in on_the_way):
                return op
        return NONE

    def _asked_of(self, op: int) -> list[int]:
        roots = self._index.roots.get(op, [])
        return [one for one in self._index.uses.of(op) if one not in roots]

    def _lines_of(self, op: int) -> Lines:
        from gradscope.analysis.facts.derivatives.function_sources import Lines

        statement = self._index.statements[self._index.op_statement[op]]
        function = self._index.recording.text(statement.function)
        return Lines(statement.file, self._index.op_line(op), statement.end_line, function)

    def _lines_of_span(self, number: int) -> Lines:
        from gradscope.analysis.facts.derivatives.function_sources import Lines

        span = self._index.recording.spans[number]
        function = self._index.recording.text(span.function)
        return Lines(span.file, self._index.line(span.file, span.line), span.end_line, function)

    def _asked_for_others(self, this: _Pass) -> Unreached:
        return Unreached(f"the pass was asked for the gradient of {this.asked_for} only (inputs=)", unused=True)

    @cached_property
    def _inside_functions(self) -> InsideFunctions:
        from gradscope.analysis.facts.reaching.applied_functions import InsideFunctions

        return InsideFunctions(self._index, self._flow, self._functions)

    def _returned_by_hook(self, cut: int) -> Unreached | None:
        """That a cut is in the hook of a module that returns something: that takes the place of the module's own."""
        span = self._index.recording.ops.column("span")[cut]
        hook = next((one for one in self._forward_hooks if span >= 0 and one.has_call(span)), None)
        returns = [] if hook is None else hook.source.returns
        if hook is None or len(returns) != 1:
            return None
        place, what = hook.lines(*returns[0]), "input" if hook.kind == "forward_pre" else "output"
        why = f"what {hook.name}, a hook, returns at line {place.line} takes the place of the module's {what}"
        return Unreached(f"cut at {self._cuts.where(cut)}; {why}", cut, changed_at=(place,))

    @cached_property
    def _forward_hooks(self) -> list[RegisteredHook]:
        from gradscope.analysis.facts.modules.registered_hooks import RegisteredHooks

        return [one for one in RegisteredHooks(self._index, self._events).all if one.kind.startswith("forward")]

    def _wrapped(self, way: list[Step], leaf: int) -> Unreached | None:
        """That the way from a leaf ends where a parameter was made of what was computed from it."""
        made = next((step.gives for step in way if step.loses), NONE)
        if made < 0 or not self._wraps.is_wrapped(made):
            return None
        wrapped = self._wraps.at(made)
        shown = self._names.at(made, self._index.recording.tensors.column("op")[made])
        is_left_out = bool(self._events.in_optimizers) and leaf not in self._events.in_optimizers
        if wrapped is None:
            why = f"{shown}, which was used in its place, is a new leaf on the memory of what was computed from it"
            return Unreached(f"{why}: making a parameter of a result keeps no history", unused=is_left_out)
        place, begun = wrapped.at, wrapped.begun
        if wrapped.by == "Parameter":
            why = f"line {place.line} makes a new leaf, {shown}, of what was computed from it"
            return Unreached(f"{why}: nn.Parameter keeps no history", unused=is_left_out, changed_at=(place,))
        into = f"an nn.{wrapped.by}" if begun is None else f"the nn.{wrapped.by} of line {begun.line}"
        return Unreached(
            f"line {place.line} puts what was computed from it into {into}, which makes a new leaf of each tensor, "
            "without its history",
            unused=is_left_out,
            changed_at=(place,) if begun is None else (place, begun),
        )

    @cached_property
    def _in_regions(self) -> RunInRegions:
        from gradscope.analysis.facts.reaching.run_in_regions import RunInRegions

        return RunInRegions(self._index, self._events)

    @cached_property
    def _wraps(self) -> WrappedParameters:
        from gradscope.analysis.facts.reaching.wrapped_parameters import WrappedParameters

        return WrappedParameters(self._index)

    def _passed_by(self, tensor: int, this: _Pass) -> StraightThrough | None:
        """The straight-through estimate, the wrong way round, that has the gradient which was meant for a leaf."""
        for found in self._reversed:
            is_on_the_way = any(made in this.steps for made in self._index.tensors_made(found.op))
            if is_on_the_way and any(tensor in self._flow.origins(one, found.op) for one in found.shows):
                return found
        return None

    def _shown_by_estimate(self, tensor: int, this: _Pass, cut: int) -> Unreached | None:
        """That a straight-through estimate, whose cut is meant, stands where what it shows was to be trained."""
        index, found = self._index, self._in_losses.beside(tensor, this.op, this.steps)
        if found is None:
            return None
        estimate = found.estimate
        line, source = index.op_line(estimate.op), self._names.at(estimate.takes, estimate.op)
        if found.compared_at >= 0:
            return Unreached(
                f"line {index.op_line(found.compared_at)} compares a straight-through estimate with {source}, cut off: "
                f"the estimate hands its gradient to {source} alone, and what it shows was to be taken there",
                estimate.op,
                changed_at=(self._lines_of(found.compared_at),),
            )
        if cut_of_equal_terms(index, self._cuts, cut) >= 0:
            return None  # (of two terms that are the same one was to be the other)
        ends = [op for op in map(index.made_by, index.roots.get(this.op, [])) if 0 <= op < index.op_count]
        return Unreached(
            f"line {line} goes on with its values as a straight-through estimate, whose gradient goes to {source} "
            f"alone, and {this.root} has no term that leads to them in another way",
            estimate.op,
            changed_at=tuple(map(self._lines_of, ends[:1])),
        )

    @cached_property
    def _in_losses(self) -> EstimatesInLosses:
        from gradscope.analysis.facts.reaching.estimates_in_losses import EstimatesInLosses

        return EstimatesInLosses(self._index, self._flow)

    @cached_property
    def _reversed(self) -> list[StraightThrough]:
        from gradscope.analysis.facts.reaching.straight_through import StraightThroughs

        return list(StraightThroughs(self._index, self._flow).reversed())

    def _leaves_behind(self, op: int) -> frozenset[int]:
        """The leaves to which the graph leads from the roots of a pass."""
        known = self._leaves_by_pass.get(op)
        if known is None:
            known = frozenset(self._passes.leaves_behind(*self._index.root_nodes(op)))
            self._leaves_by_pass[op] = known
        return known

    def _is_linked(self, step: Step, this: _Pass) -> bool:
        """Whether the graph leads from what a step gave to what it took in, as far as nodes of tensors tell."""
        node = self._index.recording.tensors.column("node")
        taken = next((one for one, other in this.steps.items() if other is step), NONE)
        behind = self._passes.behind(node[step.gives])
        return taken >= 0 and (node[taken] in behind if node[taken] >= 0 else bool(behind))

    def _explain_unused(self, tensor: int, this: _Pass) -> Unreached:
        used = [op for op in self._flow.uses_of(tensor, this.op) if not self._is_only_held(op)]
        since = self._flow.pass_before(this.op)
        if (copy := self._into_leaves.copied_from(tensor, this.steps, since, this.op)) >= 0:
            why = f"all of it that went into {this.root} was copied at line {self._index.op_line(copy)}"
            return Unreached(why, unused=True, copied=True, changed_at=(self._lines_of(copy),))
        if not used:
            held = [op for op in self._index.users.of(tensor) if op < this.op and self._is_only_held(op)]
            but = f", only to hold it (line {self._index.op_line(held[-1])})" if held else ""
            return self._never_used(tensor, this, but)
        if tensor in self._events.in_optimizers:
            written = self._into_leaves.computed_from(tensor, this.steps, since, this.op)
            if written:
                return self._written_into(written)
        if (loaded := self._past_graph.by_load(tensor, this.steps, this.op)) >= 0:
            line = self._index.op_line(loaded)
            why = f"line {line} (load_state_dict) copies values that were computed from it, without their graph"
            return Unreached(why, loaded)
        export, rebuilt = self.left_values.rebuilt(tensor, this.built, this.before)
        if export < 0 and (ends := self.left_values.ends(tensor, this.op, this.before)):
            way = self._flow.path(self.left_values.behind(ends[-1]), tensor)
            cut = next((step.op for step in way if step.loses), ends[-1])
            calls = dict.fromkeys(f"line {self._index.op_line(op)} ({self._index.call_name(op)})" for op in ends)
            why = f"all that was made from it left torch at {listed(list(calls))}"
            return Unreached(f"{why}: what is computed from plain values has no gradient", cut)
        if export < 0:
            if not (computing := self._flow.computed_with(tensor, this.op)):
                return self._never_used(tensor, this, "")
            line, flags = self._index.op_line(computing[-1]), self._index.recording.ops.column("flags")
            evaluated = not any(flags[op] & GRAD for op in computing)
            why = f"used at line {line}, but no way from there to {this.root} was seen"
            return Unreached(why, unused=True, evaluated=evaluated)
        way = self._flow.path(self.left_values.behind(export), tensor)
        cut = next((step.op for step in way if step.loses), export)
        line = self._index.op_line(rebuilt)
        return Unreached(f"cut at {self._cuts.where(cut)}; {this.root} was built from plain values at line {line}", cut)

    def _written_into(self, written: list[tuple[int, int]]) -> Unreached:
        """That what was computed from a leaf was written into another, where the graph begins anew."""
        places = tuple(dict.fromkeys(self._lines_of(op) for op, _ in written))
        op, _ = written[0]
        name = self._index.func(op)
        made = self._index.made_by(self._index.uses.of(op)[0])
        is_data = name == "Tensor.data.__set__" or self._index.call_name(made) == "Tensor.data"
        where = ".data" if is_data else "a leaf in place"
        lines = numbers(place.line for place in places)
        does = f"line {lines} writes" if len(places) == 1 else f"lines {lines} write"
        return Unreached(f"{does} what was computed from it into {where}, past the graph", changed_at=places)

    @cached_property
    def _into_leaves(self) -> WritesIntoLeaves:
        return WritesIntoLeaves(self._index, self._flow)

    def _never_used(self, tensor: int, this: _Pass, but: str) -> Unreached:
        others = " in this process, which started others" if self._index.recording.info.children else ""
        given = self._lives.passes.get(tensor, ())
        if given and given[0] < this.op:  # (it was used by a call that no mode sees: of a scripted function)
            return Unreached(f"no way from it to {this.root} was seen", unused=True)
        if (span := self._flow.transforms.read_at(tensor, this.op)) >= 0:
            line = self._index.span_line(span)
            why = f"line {line} reads it for a call under a transform of torch.func, and no way from there to"
            return Unreached(f"{why} {this.root} was seen", unused=True)
        return Unreached(f"no call was seen to use it before this backward pass{but}{others}", unused=True)

    @cached_property
    def _lives(self) -> GradientLives:
        return GradientLives(self._index)

    def _is_only_held(self, op: int) -> bool:
        """Whether a call made an object of torch's that holds what it is given: ``DDP(model)`` computes nothing."""
        is_group = self._index.recording.ops.column("kind")[op] == OpKind.GROUP
        return is_group and self._index.func(op).endswith(".__init__")

    def run_inside(self, op: int, roots: list[int]) -> list[tuple[Lines, Region]]:
        """The statements of a region meant for others that cut all that is trained off the roots of a pass.

        None where leaves of several optimizers were cut off: which of them were meant to be is not known.
        """
        steps = self._flow.origins_of_all(roots, op)
        found: dict[Lines, Region] = {}
        optimizers: set[int] = set()
        for leaf in (one for one in steps if one in self._events.in_optimizers):
            if self._index.is_leaf_with_grad(leaf, op):
                inside = self._in_regions.at(leaf, self._flow.path(steps, leaf))
                if inside is None:
                    return []
                found[inside[0]] = inside[1]
                optimizers.update(event.subject for event in self._events.in_optimizers[leaf])
        return sorted(found.items()) if len(optimizers) == 1 else []

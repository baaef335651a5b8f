"""Why a backward pass did not reach a tensor."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from gradscope.analysis.facts.best_names import BestNames
from gradscope.analysis.facts.cuts import Cuts
from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.flow import WALK_LIMIT, Flow, Step
from gradscope.analysis.facts.numbers_passed_on import may_hold
from gradscope.analysis.facts.passes import Passes
from gradscope.analysis.index import Index
from gradscope.analysis.wording import listed
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, RAISED, REQUIRES_GRAD
from gradscope.recording.rows import OpKind

if TYPE_CHECKING:
    from gradscope.analysis.facts.applied_functions import InsideFunctions
    from gradscope.analysis.facts.function_sources import FunctionSources, Lines
    from gradscope.analysis.facts.grad_regions import Region
    from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook
    from gradscope.analysis.facts.run_in_regions import RunInRegions
    from gradscope.analysis.facts.straight_through import StraightThrough
    from gradscope.analysis.facts.wrapped_parameters import WrappedParameters

WALKED_IN_ALL = 20 * WALK_LIMIT
"""Tensors followed for all misses of a run (10 to 20 s at the worst); a miss that is left then is not explained."""

_SHOWS = re.compile(r"(print|assert|log(g\w*)?\.\w+)\b")
"""Statements that show values or look at them, and hand them on to nothing."""
_EXPORTS_TRIED = 16
"""Last calls that took values out of torch whose tensors are followed back."""

_FOLLOWED = 256
"""Tensors made from a leaf that are followed to where their values leave torch."""

_LOAD = "nn.Module.load_state_dict"
_LOADS_TRIED = 16
"""Last loads of results with a graph whose graphs are walked."""

_BUILT_FROM_VALUES = frozenset(("tensor", "as_tensor", "asarray", "new_tensor", "from_numpy", "full"))
"""Functions that build a tensor from plain values."""

_FROM_VALUES_IN_SOURCE = re.compile(r"^(torch\.)?(from_numpy|as_tensor|asarray|FloatTensor|Tensor|from_dlpack)\(")
"""What a call begins with that goes on from a tensor built of plain values."""


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


def is_built_from_values(index: Index, tensor: int) -> bool:
    """Whether a call built a tensor from plain values: seen itself, or as the one that its statement has.

    ``torch.from_numpy(a).float()`` is seen by the second call alone, which takes in what no seen call made.
    """
    op, flags = (index.recording.tensors.column(name)[tensor] for name in ("op", "flags"))
    name = index.func(op).rpartition(".")[2]
    if flags & EXTERNAL:
        if op >= index.op_count or not _FROM_VALUES_IN_SOURCE.search(index.span_source(op)):
            return False
        return tensor in index.uses.of(op) and not flags & REQUIRES_GRAD
    return name in _BUILT_FROM_VALUES and not len(index.uses.of(op))


class Reasons:
    """Explains misses; what several of them need is computed once."""

    def __init__(self, index: Index, names: BestNames, cuts: Cuts, flow: Flow, passes: Passes) -> None:
        self._index = index
        self._names = names
        self._cuts = cuts
        self._flow = flow
        self._passes = passes
        self._origins_of_exports: dict[int, dict[int, Step]] = {}
        self._leaves_by_pass: dict[int, frozenset[int]] = {}
        self._leaves_by_node: dict[int, frozenset[int]] = {}
        self._edges_by_pass: dict[int, dict[int, list[tuple[int, int, int]]]] = {}
        self._walked_before = flow.walked

    @cached_property
    def _functions(self) -> FunctionSources:
        from gradscope.analysis.facts.function_sources import FunctionSources

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
        this = _Pass(op, *names, steps, before, self._built_among(steps))
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

    def _is_built_from_values(self, tensor: int) -> bool:
        """As the function; of what a library builds only where it took values out of torch itself, in the same call.

        Its constants say nothing of values that left torch elsewhere.
        """
        if not is_built_from_values(self._index, tensor):
            return False
        op = self._index.recording.tensors.column("op")[tensor]
        if self._index.recording.ops.column("inner")[op] < 0:
            return True
        return self._index.op_statement[op] in self._left_in_libraries

    @cached_property
    def _left_in_libraries(self) -> set[int]:
        """Statements in whose calls a library took values out of torch."""
        inner = self._index.recording.ops.column("inner")
        return {self._index.op_statement[op] for op in self._exports if inner[op] >= 0}

    def _built_among(self, steps: dict[int, Step]) -> tuple[int, ...]:
        """The ops that built some of the tensors of a walk from plain values."""
        made_at = self._index.recording.tensors.column("op")
        return tuple(sorted({made_at[taken] for taken in steps if self._is_built_from_values(taken)}))

    def _explain(self, tensor: int, this: _Pass) -> Unreached:
        if not this.asked_for and (by_function := self._gave_none(tensor, this.op)):
            return by_function
        if this.asked_for and tensor in self._leaves_behind(this.op):
            return self._asked_for_others(this)
        if tensor not in this.steps:
            return self._explain_unused(tensor, this)
        way = self._flow.path(this.steps, tensor)
        cut = next((step.op for step in way if step.loses), NONE)
        if cut >= 0 and self._flow.is_copy(cut):
            line = self._index.op_line(cut)
            return Unreached(f"only the copy that line {line} made of it was used", cut, unused=True)
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
        if cut >= 0 and (compared := self._compared_with_source(way, cut)) is not None:
            return compared
        if cut >= 0:
            return Unreached(f"cut at {self._cuts.where(cut)}", cut)
        if way and not self._index.requires_grad(tensor, way[0].op):
            line = self._index.op_line(way[0].op)
            return Unreached(f"it did not require grad yet when line {line} used it")
        if tensor in self._leaves_behind(this.op):
            return Unreached("the graph leads to it, and the pass left it without a gradient", reached=True)
        kinds = self._index.recording.ops.column("kind")
        if by_grad := next((step.op for step in way if kinds[step.op] == OpKind.GRAD), 0):
            line = self._index.op_line(by_grad)  # (what is only added to an output has no part in its gradient)
            return Unreached(f"used for the gradient of line {line}, which does not depend on it", unused=True)
        if this.asked_for and tensor not in self._index.uses.of(this.op):
            return self._asked_for_others(this)
        if (used := self._inside_functions.on(way, self._roots_of(this.op))) is not None:
            return Unreached(used.why, none_at=(used.returned_at,), changed_at=(used.applied_at,))
        left = next((step.op for step in way if not self._is_linked(step, this)), way[0].op if way else NONE)
        return Unreached(f"the way from it to {this.root} leaves what was seen at line {self._index.op_line(left)}")

    def _asked_for_others(self, this: _Pass) -> Unreached:
        return Unreached(f"the pass was asked for the gradient of {this.asked_for} only (inputs=)", unused=True)

    def _roots_of(self, op: int) -> list[int]:
        return [row.node for row in self._index.recording.backwards if row.op == op]

    @cached_property
    def _inside_functions(self) -> InsideFunctions:
        from gradscope.analysis.facts.applied_functions import InsideFunctions

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
        place = self._wraps.at(made)
        if place is None:
            return None
        shown = self._names.at(made, self._index.recording.tensors.column("op")[made])
        is_left_out = bool(self._events.in_optimizers) and leaf not in self._events.in_optimizers
        return Unreached(
            f"line {place.line} makes a new leaf, {shown}, of what was computed from it: nn.Parameter keeps no history",
            unused=is_left_out,
            changed_at=(place,),
        )

    @cached_property
    def _in_regions(self) -> RunInRegions:
        from gradscope.analysis.facts.run_in_regions import RunInRegions

        return RunInRegions(self._index, self._events)

    @cached_property
    def _wraps(self) -> WrappedParameters:
        from gradscope.analysis.facts.wrapped_parameters import WrappedParameters

        return WrappedParameters(self._index)

    def _passed_by(self, tensor: int, this: _Pass) -> StraightThrough | None:
        """The straight-through estimate, the wrong way round, that has the gradient which was meant for a leaf."""
        for found in self._reversed:
            is_on_the_way = any(made in this.steps for made in self._index.tensors_made(found.op))
            if is_on_the_way and any(tensor in self._flow.origins(one, found.op) for one in found.shows):
                return found
        return None

    def _compared_with_source(self, way: list[Step], cut: int) -> Unreached | None:
        """That a straight-through estimate, whose cut is meant, stands where what it shows was to be trained."""
        from gradscope.analysis.facts.function_sources import Lines
        from gradscope.analysis.facts.straight_through import StraightThroughs

        index, estimates = self._index, StraightThroughs(self._index, self._flow)
        for found in filter(None, (estimates.of(step.op) for step in way if step.op > cut)):
            op = estimates.compared_with_source(found)
            if op >= 0:
                statement = index.statements[index.op_statement[op]]
                function = index.recording.text(statement.function)
                line, source = index.op_line(op), self._names.at(found.takes, found.op)
                return Unreached(
                    f"line {line} compares a straight-through estimate with {source}, cut off: the estimate hands its "
                    f"gradient to {source} alone, and what it shows was to be taken there",
                    cut,
                    changed_at=(Lines(statement.file, line, statement.end_line, function),),
                )
        return None

    @cached_property
    def _reversed(self) -> list[StraightThrough]:
        from gradscope.analysis.facts.straight_through import StraightThroughs

        return list(StraightThroughs(self._index, self._flow).reversed())

    def _leaves_behind(self, op: int) -> frozenset[int]:
        """The leaves to which the graph leads from the roots of a pass."""
        known = self._leaves_by_pass.get(op)
        if known is None:
            variable = self._index.recording.nodes.column("variable")
            known = frozenset(variable[node] for root in self._roots_of(op) for node in self._passes.behind(root)) - {
                NONE
            }
            self._leaves_by_pass[op] = known
        return known

    def _is_linked(self, step: Step, this: _Pass) -> bool:
        """Whether the graph leads from what a step gave to what it took in, as far as nodes of tensors tell."""
        node = self._index.recording.tensors.column("node")
        taken = next((one for one, other in this.steps.items() if other is step), NONE)
        behind = self._passes.behind(node[step.gives])
        return taken >= 0 and (node[taken] in behind if node[taken] >= 0 else bool(behind))

    def _gave_none(self, leaf: int, op: int) -> Unreached | None:
        """That custom Functions which a pass came through gave a leaf None, or None where that is not known."""
        given = self._functions_before(leaf, op)
        if not given:
            return None
        phrases, lines = [], []
        for node, place in given.items():
            name = self._name_of_function(node)
            if place is None:
                at = self._index.op_line(self._index.recording.nodes.column("op")[node])
                phrases.append(f"the backward of {name} (line {at}) gave it no gradient (None)")
            else:
                lines.append(place[0])
                said = "returns None for it at" if place[1] else "gave it no gradient (None):"
                phrases.append(f"{name}'s backward {said} line {place[0].line}")
        why = " and ".join(dict.fromkeys(phrases))
        return Unreached(f"the graph leads to it, but {why}", none_at=tuple(dict.fromkeys(lines)))

    def _functions_before(self, leaf: int, op: int) -> dict[int, tuple[Lines, bool] | None]:
        """The custom Functions that gave nothing to what leads to a leaf, each with the lines that say so.

        From the leaf up: a node of torch's passes on what it is given, and so does a Function that computes a gradient
        by its source. Empty where a way up leads to no Function that may have given None.
        """
        before, found = self._edges_into(op), {}
        variable = self._index.recording.nodes.column("variable")
        names, functions = self._index.recording.nodes.column("name"), self._index.custom_functions
        stack = [node for node in before if variable[node] == leaf]
        seen = set(stack)
        while stack:
            node = stack.pop()
            if not before.get(node):
                return {}
            for above, position, inputs in before[node]:
                if names[above] in functions:
                    source = self._functions.of_node(above)
                    place = None if source is None else source.gives_none(position, inputs)
                    if source is None or place is not None:
                        found[above] = place
                        continue
                if above not in seen:
                    seen.add(above)
                    stack.append(above)
        return found

    def _edges_into(self, op: int) -> dict[int, list[tuple[int, int, int]]]:
        """For each node behind the roots of a pass: the nodes that lead to it, by which of how many edges."""
        if not self._index.custom_functions or self._index.recording.ops.column("flags")[op] & RAISED:
            return {}
        known = self._edges_by_pass.get(op)
        if known is None:
            starts, following = self._passes.edge_starts, self._index.edges.values
            known = {}
            for node in dict.fromkeys(node for root in self._roots_of(op) for node in self._passes.behind(root)):
                first, end = starts[node], starts[node + 1]
                for position in range(first, end):
                    if following[position] >= 0:
                        known.setdefault(following[position], []).append((node, position - first, end - first))
            self._edges_by_pass = {op: known}
        return known

    def _name_of_function(self, node: int) -> str:
        recording = self._index.recording
        return recording.text(recording.nodes.column("name")[node]).removesuffix("Backward")

    def _explain_unused(self, tensor: int, this: _Pass) -> Unreached:
        used = [op for op in self._flow.uses_of(tensor, this.op) if not self._is_only_held(op)]
        if not used:
            held = [op for op in self._index.users.of(tensor) if op < this.op and self._is_only_held(op)]
            wrapped = f" but the one that wraps it (line {self._index.op_line(held[-1])})" if held else ""
            others = " in this process, which started others" if self._index.recording.info.children else ""
            return Unreached(f"no call was seen to use it before this backward pass{wrapped}{others}", unused=True)
        if (written := self._written_past_graph(tensor, this)) >= 0:
            line = self._index.op_line(written)
            why = f"line {line} writes what was computed from it into .data, past the graph"
            return Unreached(why, written)
        if (loaded := self._loaded_from(tensor, this)) >= 0:
            line = self._index.op_line(loaded)
            why = f"line {line} (load_state_dict) copies values that were computed from it, without their graph"
            return Unreached(why, loaded)
        export, rebuilt = self._values_left_at(tensor, this)
        if export < 0 and (ends := self._left_torch(tensor, this)):
            way = self._flow.path(self._behind_export(ends[-1]), tensor)
            cut = next((step.op for step in way if step.loses), ends[-1])
            calls = dict.fromkeys(f"line {self._index.op_line(op)} ({self._index.call_name(op)})" for op in ends)
            why = f"all that was made from it left torch at {listed(list(calls))}"
            return Unreached(f"{why}: what is computed from plain values has no gradient", cut)
        if export < 0:
            line = self._index.op_line(used[-1])
            return Unreached(f"used at line {line}, but no way from there to {this.root} was seen", unused=True)
        way = self._flow.path(self._behind_export(export), tensor)
        cut = next((step.op for step in way if step.loses), export)
        line = self._index.op_line(rebuilt)
        return Unreached(f"cut at {self._cuts.where(cut)}; {this.root} was built from plain values at line {line}", cut)

    def _is_only_held(self, op: int) -> bool:
        """Whether a call made an object of torch's that holds what it is given: ``DDP(model)`` computes nothing."""
        is_group = self._index.recording.ops.column("kind")[op] == OpKind.GROUP
        return is_group and self._index.func(op).endswith(".__init__")

    def _loaded_from(self, leaf: int, this: _Pass) -> int:
        """The last load of a state that was computed from a leaf of an optimizer into what the root was made from.

        NONE for none, or where the leaf is itself loaded so: an average of it and another is no way for a gradient.
        """
        index, node = self._index, self._index.recording.tensors.column("node")
        for op in self._loads if leaf in self._events.in_optimizers else ():
            written = set(index.results.of(op))
            if op > this.op or leaf in written or written.isdisjoint(this.steps):
                continue
            values = (node[one] for one in index.uses.of(op) if one not in written)
            if any(leaf in self._leaves_of_node(one) for one in values if one >= 0):
                return op
        return NONE

    def _leaves_of_node(self, node: int) -> frozenset[int]:
        known = self._leaves_by_node.get(node)
        if known is None:
            variable = self._index.recording.nodes.column("variable")
            known = frozenset(variable[one] for one in self._passes.behind(node)) - {NONE}
            self._leaves_by_node[node] = known
        return known

    @cached_property
    def _loads(self) -> list[int]:
        """The last calls of ``load_state_dict`` that were given results with a graph, the last first."""
        index, node = self._index, self._index.recording.tensors.column("node")
        loads = (op for op in range(index.op_count - 1, -1, -1) if index.func(op) == _LOAD)
        return list(islice((op for op in loads if any(node[one] >= 0 for one in index.uses.of(op))), _LOADS_TRIED))

    def _written_past_graph(self, tensor: int, this: _Pass) -> int:
        """The call that wrote a tracked result of a leaf into the data of what the root was made from; NONE for none.

        ``p.data = p.data - rate * g``, ``p.data.sub_(rate * g)``. Of leaves that an optimizer was given: a result that
        is tracked up to there was meant to be trained through.
        """
        if tensor not in self._events.in_optimizers:
            return NONE
        stack, seen = [tensor], {tensor}
        while stack and len(seen) < _FOLLOWED:
            one = stack.pop()
            for op in self._flow.uses_of(one, this.op):
                if one != tensor and self._data_written_from(op, one) in this.steps:
                    return op
                new = [made for made in self._index.tensors_made(op) if made not in seen]
                new = [made for made in new if self._index.requires_grad(made, op + 1)]
                seen.update(new)
                stack += new
        return NONE

    def _data_written_from(self, op: int, value: int) -> int:
        """The tensor whose data an op writes a value into; NONE for another op."""
        index = self._index
        taken, func = index.uses.of(op), index.func(op)
        if len(taken) < 2 or taken[0] == value:
            return NONE
        if func == "Tensor.data.__set__":
            return taken[0]
        made_by = index.made_by(taken[0])
        is_data = 0 <= made_by < index.op_count and index.func(made_by) == "Tensor.data.__get__"
        return index.uses.of(made_by)[0] if is_data and func.endswith("_") else NONE

    def _left_torch(self, tensor: int, this: _Pass) -> list[int]:
        """The calls that took values out of torch in which all ends that was made from a leaf since the pass before.

        None where it does not all end so; where a tensor was built from plain values after that, maybe from these, and
        the root was not made from it; where the values were only printed; or where no optimizer was given the leaf:
        nothing says that it is to be trained.
        """
        if tensor not in self._events.in_optimizers:
            return []
        kinds, ends = self._index.recording.ops.column("kind"), set[int]()
        stack, seen = [tensor], {tensor}
        while stack and len(seen) < _FOLLOWED:
            one = stack.pop()
            users = [op for op in self._flow.uses_of(one, this.op) if op > this.before]
            if not users:
                return []
            for op in users:
                new = [made for made in self._index.tensors_made(op) if made not in seen]
                if kinds[op] == OpKind.EXPORT:
                    ends.add(op)
                else:
                    seen.update(new)
                    stack += new
        if stack or not ends or bisect_left(self._built, min(ends)) < bisect_left(self._built, this.op):
            return []
        shown = (_SHOWS.match(self._index.op_place(op).source.strip()) for op in ends)
        return [] if all(shown) else sorted(ends)

    @cached_property
    def _built(self) -> list[int]:
        """The ops that built tensors from plain values."""
        made_at = self._index.recording.tensors.column("op")
        return sorted({op for tensor, op in enumerate(made_at) if self._is_built_from_values(tensor)})

    def values_left(self, op: int, before: int, roots: list[int]) -> tuple[list[int], int] | None:
        """That a root was built from plain values which left torch, where nothing behind it requires grad.

        Args:
            op: The pass.
            before: The pass before it, or NONE.
            roots: The tensors that it started from.

        Returns:
            The cuts by which tracked values left between the two passes, the last call for it, and the call that built
            a tensor from values after that; None where no tracked values left.
        """
        built = self._built_among(self._flow.origins_of_all(roots, op))
        if not built:
            return None
        rebuilt = built[-1]
        for export in reversed(self._exports_before(rebuilt, before)[-_EXPORTS_TRIED:]):
            if not len(self._index.uses.of(export)) or not may_hold(self._index, rebuilt, export):
                continue
            if self._index.requires_grad(self._index.uses.of(export)[0], export):
                return [export], rebuilt
            behind = self._behind_export(export)
            leaves = [one for one in behind if self._index.is_leaf_with_grad(one, export)]
            cuts = {step.op for leaf in leaves for step in self._flow.path(behind, leaf) if step.loses}
            if cuts:
                return sorted(cuts), rebuilt
        return None

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

    def _values_left_at(self, tensor: int, this: _Pass) -> tuple[int, int]:
        """The op that took values out of torch from which another one built a tensor behind the root; NONE for both.

        That they are the same values cannot be seen. What speaks for it: they left after the pass before, and a tensor
        behind the root was built from plain values later.
        """
        for rebuilt in reversed(this.built):
            exports = self._exports_before(rebuilt, this.before)
            if exports:  # spares the walk over all that was ever made from it
                found = set(exports) & set(self._flow.goes_into(tensor, rebuilt))
                export = max((one for one in found if may_hold(self._index, rebuilt, one)), default=NONE)
                if export >= 0:
                    return export, rebuilt
        return NONE, NONE

    def _exports_before(self, rebuilt: int, before: int) -> list[int]:
        """The calls after one op that took out of torch what another may have built a tensor of.

        Where its own statement takes values out (``torch.tensor(h.tolist())``), it is built of those.
        """
        exports = self._exports[bisect_right(self._exports, before) : bisect_left(self._exports, rebuilt)]
        statements = self._index.op_statement
        since = max((op for op in self._built if op < rebuilt and statements[op] == statements[rebuilt]), default=NONE)
        return [op for op in exports if op > since and statements[op] == statements[rebuilt]] or exports

    @cached_property
    def _exports(self) -> list[int]:
        return self._index.of_kind(OpKind.EXPORT)

    def _behind_export(self, export: int) -> dict[int, Step]:
        known = self._origins_of_exports.get(export)
        if known is None:
            known = self._flow.origins(self._index.uses.of(export)[0], export)
            self._origins_of_exports[export] = known
        return known

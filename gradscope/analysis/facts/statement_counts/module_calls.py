"""How often a statement called modules, by what ran below it.

Layers that one call goes through one after the other (``for layer in layers: x = layer(x)``) are told apart by the
parameters that they have; those without any by the functions that only they call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cached_property

from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import BELOW, CONTINUED, MADE, PARAMETER
from gradscope.recording.rows import Span

_IN_ONE_GO = frozenset(("torch._native_multi_head_attention", "torch._transformer_encoder_layer_fwd"))
"""What torch's own modules call in place of all that they call otherwise, while nothing is trained."""
_Used = tuple[int, tuple[int, ...]]
"""A function, and the parameters that a call of it took in."""


class ModuleCalls:
    """Calls of modules by statements of which no call in the source tells it.

    Args:
        index: The recording.
        is_repeated: Whether one run of a statement makes the call of a span any number of times.
        is_chosen: Whether not every run of a statement comes to the call at a place.
    """

    def __init__(self, index: Index, is_repeated: Callable[[int], bool], is_chosen: Callable[[Span], bool]) -> None:
        self._index = index
        self._is_repeated = is_repeated
        self._is_chosen = is_chosen
        self._modules = index.recording.modules

    def of(self, statements: Iterable[int]) -> dict[int, int]:
        """How often statements ran that call one module a run; those are left out of which that is not known."""
        wanted = [at for at in statements if at in self._called]
        if not wanted or len(self._index.recording.left_out):
            return {}
        used = self._used(frozenset(wanted))
        found = {at: self._runs(at, used.get(at, {})) for at in wanted}
        return {at: runs for at, runs in found.items() if runs}

    @cached_property
    def _called(self) -> dict[int, dict[Span, set[int]]]:
        """By statement and call in the source the modules that it called when they were first met.

        A layer that its container's own Python called has the line above it, too: that one is the container's call.
        """
        found: dict[int, dict[Span, set[int]]] = {}
        rows, spans = list(self._modules), list(self._index.recording.spans)
        statements = self._index.statement_of_span
        for module, row in enumerate(rows):
            above = row.parent
            while above != NONE and rows[above].span == NONE:
                above = rows[above].parent
            if row.span == NONE or self._is_repeated(row.span):
                continue
            if above != NONE and statements[rows[above].span] == statements[row.span]:
                continue
            found.setdefault(statements[row.span], {}).setdefault(spans[row.span], set()).add(module)
        return found

    @cached_property
    def _owners(self) -> dict[int, int]:
        """The module that each parameter is of; NONE for one that several have."""
        owners: dict[int, int] = {}
        for module, tensor, _ in self._index.recording.module_tensors:
            owners[tensor] = NONE if owners.get(tensor, module) != module else module
        return owners

    @cached_property
    def _functions(self) -> dict[int, set[int]]:
        """The functions that each module was seen to call, itself or by its parts."""
        funcs, parents = self._index.recording.ops.column("func"), self._modules.column("parent")
        found: dict[int, set[int]] = {}
        for op, inner in self._index.recording.module_ops:
            module = inner
            while module != NONE:
                found.setdefault(module, set()).add(funcs[op])
                module = parents[module]
        return found

    def _used(self, statements: frozenset[int]) -> dict[int, dict[Span, Counter[_Used]]]:
        """By statement and call in the source what ran below it: how often each function took which parameters."""
        index, used = self._index, dict[int, dict[Span, Counter[_Used]]]()
        tensor_flags = index.recording.tensors.column("flags")
        spans = list(index.recording.spans)
        columns = (index.recording.ops.column(name) for name in ("span", "func", "flags", "inner"))
        for op, (at, span, func, flags, inner) in enumerate(zip(index.op_statement, *columns, strict=True)):
            if at in statements and flags & BELOW and not flags & (MADE | CONTINUED) and inner == NONE:
                taken = tuple(one for one in index.uses.of(op) if one in self._owners or tensor_flags[one] & PARAMETER)
                used.setdefault(at, {}).setdefault(spans[span], Counter())[func, taken] += index.weights[op]
        return used

    def _runs(self, at: int, used: dict[Span, Counter[_Used]]) -> int:
        """The runs of a statement: those of the call that ran most often, if those of each are known.

        Of one whose calls are all made in each run (``self.rnn(self.drop(h))``) any that is known tells it.
        """
        runs = {place: self._calls_of(self._called[at].get(place, set()), counts) for place, counts in used.items()}
        bound = [times for place, times in runs.items() if not self._is_chosen(place)]
        return max(bound, default=0) or (max(runs.values(), default=0) if all(runs.values()) else 0)

    def _calls_of(self, roots: set[int], used: Counter[_Used]) -> int:
        """How often one call in the source called a module; 0 where something ran of which it is not known whose it is.

        A module that was first called elsewhere is one of these where it stands beside them.
        """
        parents, calls, beside = self._modules.column("parent"), dict[int, Counter[_Used]](), Counter[int]()
        siblings = {parents[root] for root in roots} if len(roots) > 1 else set()
        for (func, taken), count in used.items():
            for tensor in taken:
                root = self._owners.get(tensor, NONE)  # (a model that nobody looked at any more has no rows)
                while root != NONE and root not in roots and parents[root] not in siblings:
                    root = parents[root]
                if root == NONE:
                    return 0
                calls.setdefault(root, Counter())[func, (tensor,)] += count
            if not taken:
                beside[func] += count
        known = {func for root in calls for func in self._functions.get(root, ())}
        bare = [self._functions.get(root, set()) for root in roots if root not in calls and root not in parents]
        alone = set().union(*bare)
        is_known = len(bare) == len(roots - calls.keys()) and all(len(functions) == 1 for functions in bare)
        if not is_known or alone & known or beside.keys() - known - alone:
            return 0
        return sum(map(self._most_common, calls.values())) + sum(beside[func] for func in alone)

    def _most_common(self, counts: Counter[_Used]) -> int:
        """How often most of a module's parameters were used: once a call.

        By what runs in one go, and by what runs otherwise: one call is one or the other.
        """
        text, parts = self._index.recording.text, (Counter[_Used](), Counter[_Used]())
        for used, times in counts.items():
            parts[text(used[0]) in _IN_ONE_GO][used] = times
        return sum(map(_most_common, parts))


def _most_common(counts: Counter[_Used]) -> int:
    """The number that most of some counts are, of equally many the least; 0 for none."""
    if not counts:
        return 0
    times = Counter(counts.values())
    return min(times, key=lambda count: (-times[count], count))

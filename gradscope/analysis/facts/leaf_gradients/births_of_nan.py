"""Where the first NaN or infinity of a backward pass was seen to come from: an op of the forward pass, a derivative."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator
from functools import cached_property
from operator import itemgetter
from typing import NamedTuple

from gradscope.analysis.facts.leaf_gradients.infinite_fills import InfiniteFills
from gradscope.analysis.facts.leaf_gradients.nan_of_sizes import gives_nan
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.value_looks import PassLook, Range, is_bad, is_nan
from gradscope.analysis.facts.writes import is_step, writes_by_program
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER

_FOLLOWED = 100_000
"""Ops behind a loss that are followed."""

_WAYS = 8
"""Calls behind a softmax in which the masking call is looked for."""

_OF_EXPONENTIALS = ("softmax", "logsumexp", "logaddexp")
"""Functions that divide by a sum of exponentials, which is zero where all that they are given is -inf."""

_RESULTS = ("result", "result0", "result1", "output")
"""What a node keeps of its own results."""


_POLES = re.compile(r"(Div|Reciprocal|Rsqrt|Log|Log2|Log10|Log1P|Logit|Atanh|Tan|Lgamma|Digamma|Erfinv)Backward\d")
"""Nodes of functions that are not finite themselves where their derivatives are not."""


_EXPONENTIALS = re.compile(r"(Exp|Exp2|Expm1)Backward\d")
"""Nodes whose derivative is their result, which may be infinite for what is large and finite."""


_HAND_ON = frozenset(("mean", "neg", "view", "reshape", "squeeze", "unsqueeze", "flatten", "to", "float", "double"))
"""Functions whose result is not finite only if what goes in is not."""

_DIVIDED = re.compile(r"/ *(\d+(?:\.\d*)?)$")

_ENDING = frozenset(
    ("pow", "rpow", "rsqrt", "reciprocal", "log", "log2", "log10", "div", "rdiv", "truediv", "rtruediv", "logit")
)
"""Functions that are not finite everywhere."""

_ENDING_AT_BOUND = frozenset(
    ("log", "log2", "log10", "log1p", "logit", "atanh", "arctanh", "erfinv", "reciprocal", "rdiv", "rtruediv", "rsqrt")
)
"""Functions that are infinite at the end of where they are defined; ``1 / x`` is one, ``x / 2`` is not."""


class Birth(NamedTuple):
    """Where it came from."""

    op: int
    """The call of the forward pass; NONE where a leaf was not finite already."""
    values: Range | None
    """What was found: of the result, or of the derivative; None where the node was only seen to give it."""
    is_derivative: bool
    """The values of the forward pass are finite there, and the derivative is not."""
    at: float | None = None
    """What the call kept where its derivative is not finite."""
    mask: int = NONE
    """The call that put an infinity in."""
    leaf: int = NONE
    """The leaf that was not finite already."""
    given: int = NONE
    """A call right behind it, without a graph, whose function is not finite everywhere; its result is not known."""
    fills: tuple[int, ...] = ()
    """All calls that put in the -inf at which a derivative ends, where they are known."""
    is_met: bool = False
    """An infinity came to the call, of which only a call right behind it is known that may have given it."""
    function: str = ""
    """The custom Function whose node it is: what applied that is not seen, and a call beside it would be blamed."""

    @property
    def is_nan(self) -> bool:
        """Whether a NaN was found, not an infinity alone."""
        return self.values is not None and is_nan(self.values)


def is_masked(at: float | None) -> bool:
    """Whether a derivative ends at -inf."""
    return at == -math.inf


class Births:
    """Finds them in what was looked at before a pass."""

    def __init__(self, index: Index, passes: Passes, born: dict[int, Range]) -> None:
        self._index = index
        self._born = born
        self._passes = passes
        self._fills = InfiniteFills(index)

    def of(self, look: PassLook) -> Birth | None:
        """The first of a pass that was not finite; None where nothing is known of it."""
        watched = self._watched(look) if self._born or look.nodes else None
        return watched or (self._in_loss(look) if look.bad_roots else self._in_gradient(look))

    def _watched(self, look: PassLook) -> Birth | None:
        """Where every op and every node was looked at."""
        if look.bad_roots:
            behind = self._ops_behind(look.op)
            return self._spoilt(look, behind) or self._first_born(behind, any(map(is_nan, look.bad_roots)))
        if not look.nodes:
            return None
        if not self._born and (taken := self._taken_in(look)) is not None:
            return taken
        node = look.nodes[0]
        op = self._index.recording.nodes.column("op")[node]
        forward = self._first_born({op, *self._ops_behind(op)}, True)
        if forward is not None:
            return forward
        known = next((one for one in look.derivatives if one.node == node), None)
        at = known and known.at
        birth = self._of_derivative(op, known and known.values, at)
        named = self._index.recording.nodes.column("name")[node]
        if named not in self._index.custom_functions or birth.values is not None:
            return birth
        return birth._replace(function=self._index.recording.text(named).removesuffix("Backward"))

    def _spoilt(self, look: PassLook, behind: set[int]) -> Birth | None:
        """A parameter that was not finite any more before the pass: what the calls make of it began in a step."""
        taken = {tensor for op in (look.op, *behind) for tensor in self._index.uses.of(op)}
        for tensor, values in look.tensors.items():
            if is_bad(values) and tensor in taken and self._is_trained(tensor):
                return Birth(NONE, values, False, leaf=tensor)
        return None

    def _first_born(self, ops: set[int], is_wanted_nan: bool) -> Birth | None:
        """The first of some ops in which a NaN or, where none is, an infinity was born that was not meant."""
        born = sorted(op for op in ops if op in self._born and not self._fills.is_one(op))
        nans = [op for op in born if is_nan(self._born[op])]
        if nans and is_wanted_nan:
            before = self._ops_behind(nans[0])
            born = [op for op in born if op in before and op not in nans] + nans
        elif is_wanted_nan:
            born = []
        return Birth(born[0], self._born[born[0]], False, mask=self._mask(born[0])) if born else None

    def _in_gradient(self, look: PassLook) -> Birth | None:
        """The loss is finite: a NaN that the loss leaves out, or a derivative that is not finite."""
        made_by = self._index.recording.nodes.column("op")
        if (taken := self._taken_in(look)) is not None:
            return taken
        spoilt = set(look.bad_gradients)
        bad = [
            one
            for one in sorted(look.derivatives, key=lambda one: one.node, reverse=True)
            if is_bad(one.values) and not spoilt.isdisjoint(self._leaves_behind(one.node))
        ]
        infinite = self._given_infinities(look)
        for one in bad:
            op = made_by[one.node]
            if one.node not in infinite or (is_masked(one.at) and self._is_of_exponentials(op)):
                return self._of_derivative(op, one.values, one.at)
        if not bad:
            return self._overflown(look, spoilt)
        return self._met(made_by[bad[-1].node], infinite[bad[-1].node]) or self._of_derivative(
            made_by[bad[0].node], bad[0].values, None
        )

    def _taken_in(self, look: PassLook) -> Birth | None:
        """The first call of which a NaN is kept for backward: the loss leaves it out."""
        kept = [(self._maker(one.node, one.attr, look.op), one.values) for one in look.kept if is_nan(one.values)]
        op, values = min(((op, values) for op, values in kept if op >= 0), key=itemgetter(0), default=(NONE, None))
        return Birth(op, values, False, mask=self._mask(op)) if values is not None else None

    def _given_infinities(self, look: PassLook) -> dict[int, Range]:
        """The nodes that keep an infinity of what they were given: it began before them."""
        found = {}
        for one in look.kept:
            if one.attr not in _RESULTS and is_bad(one.values) and not is_nan(one.values):
                found[one.node] = one.values
        return found

    def _met(self, op: int, values: Range) -> Birth | None:
        """An infinity that came to a call from values without a graph, where one call made them that may give it."""
        index = self._index
        found = [
            one
            for one in self._ops_behind(op, _WAYS)
            if index.func(one).rpartition(".")[2].strip("_") in _ENDING_AT_BOUND
            and not any(index.requires_grad(tensor, op) for tensor in index.tensors_made(one))
        ]
        lines = {index.op_statement[one] for one in found}
        return Birth(op, values, False, given=max(found), is_met=True) if len(lines) == 1 else None

    def _of_derivative(self, op: int, values: Range | None, at: float | None) -> Birth:
        if not is_masked(at):
            return Birth(op, values, True, at)
        return Birth(op, values, True, at, mask=self._mask(op), fills=tuple(self._fills.into(op)))

    def _overflown(self, look: PassLook, spoilt: set[int]) -> Birth | None:
        """The first exponential that gave an infinity which the loss leaves out: a clamp or a choice behind it.

        Its derivative is what it gave, and the gradient that comes back to it is zero there: 0 * inf.
        """
        nodes, text = self._index.recording.nodes, self._index.recording.text
        found = [
            (nodes.column("op")[one.node], one.values)
            for one in look.kept
            if one.attr in _RESULTS
            and one.values[1] == math.inf
            and _EXPONENTIALS.match(text(nodes.column("name")[one.node]))
            and not spoilt.isdisjoint(self._leaves_behind(one.node))
        ]
        nans = any(is_nan(look.gradients[tensor]) for tensor in spoilt)
        op, values = min(found, key=itemgetter(0), default=(NONE, (math.nan, math.nan)))
        return Birth(op, values, False) if op >= 0 and nans else None

    def _in_loss(self, look: PassLook) -> Birth | None:
        """The first of what leads to the loss that was seen not to be finite, and was not meant so."""
        behind = self._ops_behind(look.op)
        taken = {tensor for one in (look.op, *behind) for tensor in self._index.uses.of(one)}
        found: dict[int, Range] = {}
        for kept in look.kept:
            op = self._maker(kept.node, kept.attr, look.op)
            if is_bad(kept.values) and op in behind:
                found.setdefault(op, kept.values)
        flags = self._index.recording.tensors.column("flags")
        for tensor, values in look.tensors.items():
            if not is_bad(values) or tensor not in taken:
                continue
            op = self._last_writer(tensor, look.op)
            if op >= 0:
                found.setdefault(op, values)
            elif is_nan(values) or flags[tensor] & PARAMETER:
                return Birth(NONE, values, False, leaf=tensor)
        self._add_poles(look, behind, found)
        meant = {op for op in found if self._fills.is_one(op)}
        nans = [op for op in found if is_nan(found[op]) and op not in meant]
        wanted = min(nans, default=max(found, default=NONE))
        before = self._ops_behind(wanted)
        for op in sorted(found):
            is_first = op == wanted or (op < wanted and op in before)
            if is_first and op not in meant and not self._follows(op, meant):
                values = found[op]
                known = {self._maker(kept.node, kept.attr, look.op) for kept in look.kept} | found.keys()
                first = self._handed_on(op, look, known)
                return Birth(first, values, False, mask=self._mask(first), given=self._given(first, values, known))
        return None

    def _handed_on(self, op: int, look: PassLook, known: set[int]) -> int:
        """The call whose result a call hands on as large as it was, where that was not looked at: an average of it."""
        for _ in range(_WAYS):
            taken = self._index.uses.of(op)
            if len(taken) != 1 or taken[0] in look.tensors or not self._keeps_size(op):
                return op
            if gives_nan(self._index, op) is not None:
                return op
            before = self._index.made_by(taken[0])
            if before < 0 or before in known:
                return op
            op = before
        return op

    def _keeps_size(self, op: int) -> bool:
        name = self._index.func(op).rpartition(".")[2].strip("_")
        divided = _DIVIDED.search(self._index.span_source(op))
        return name in _HAND_ON or (name in ("div", "truediv") and divided is not None and float(divided[1]) >= 1)

    def _given(self, op: int, values: Range, known: set[int]) -> int:
        """What may have given a call a value that is not finite, where no graph tells what it gave."""
        if not is_nan(values):
            return NONE
        behind = self._ops_behind(op, _WAYS)
        made = self._index.tensors_made
        found = [
            one
            for one in behind - known
            if self._index.func(one).rpartition(".")[2].strip("_") in _ENDING
            and not any(self._index.requires_grad(tensor, op) for tensor in made(one))
        ]
        return max(found, default=NONE)

    def _add_poles(self, look: PassLook, behind: set[int], found: dict[int, Range]) -> None:
        """Calls whose values end where their derivatives do: what went in is finite, what came out is not kept."""
        nodes, spoilt = self._index.recording.nodes, {one.node for one in look.kept if is_bad(one.values)}
        made_by, text = nodes.column("op"), self._index.recording.text
        for one in look.derivatives:
            op, name = made_by[one.node], text(nodes.column("name")[one.node])
            if is_bad(one.values) and op in behind and one.node not in spoilt and _POLES.match(name):
                found.setdefault(op, one.values)

    def _last_writer(self, tensor: int, before: int) -> int:
        """The op that gave a tensor its values; NONE for what came from elsewhere or was trained."""
        if self._is_trained(tensor):
            return NONE
        written = [op for op in self._written_at.get(tensor, ()) if op < before]
        return written[-1] if written else self._index.made_by(tensor)

    def _is_trained(self, tensor: int) -> bool:
        return tensor in self._stepped

    def _follows(self, op: int, meant: set[int]) -> bool:
        """Whether an infinity in a call's result is that of a mask that it took."""
        last = self._index.func(op).rpartition(".")[2].strip("_")
        made_at = self._index.recording.tensors.column("op")
        return last in ("add", "where", "to", "expand", "view") and any(
            made_at[tensor] in meant for tensor in self._index.uses.of(op)
        )

    def _mask(self, op: int) -> int:
        """The call right behind a softmax or the like that filled with an infinity; NONE for none."""
        if not self._is_of_exponentials(op):
            return NONE
        found = [one for one in self._ops_behind(op, _WAYS) if self._fills.is_one(one)]
        return max(found, default=NONE)

    def _is_of_exponentials(self, op: int) -> bool:
        return any(name in self._index.func(op).lower() for name in _OF_EXPONENTIALS)

    def _maker(self, node: int, attr: str, before: int) -> int:
        """The op that made what a node keeps: the node's own where it is not known, NONE for what is trained."""
        recording = self._index.recording
        own = recording.nodes.column("op")[node]
        if attr in _RESULTS:
            return own
        for row in self._index.saved.of(node):
            saved = recording.saved[row]
            if recording.text(saved.attr) == attr and saved.tensor >= 0:
                op = self._last_writer(saved.tensor, before)
                return own if op == NONE and not self._is_trained(saved.tensor) else op
        return own

    def _leaves_behind(self, node: int) -> Iterator[int]:
        variable = self._index.recording.nodes.column("variable")
        return (variable[one] for one in self._passes.behind(node) if variable[one] >= 0)

    def _ops_behind(self, op: int, limit: int = _FOLLOWED) -> set[int]:
        """The ops whose results went into one, by the tensors that were seen and what was written into them.

        Not by the steps of optimizers: what is trained is where the way ends.
        """
        index = self._index
        found: set[int] = set()
        todo = deque([op])
        while todo and len(found) < limit:
            current = todo.popleft()
            for tensor in index.uses.of(current) if current >= 0 else ():
                makers = [at for at in self._written_at.get(tensor, ()) if at < current]
                if not self._is_trained(tensor):
                    makers.append(index.made_by(tensor))
                for maker in makers:
                    if 0 <= maker < op and maker not in found:
                        found.add(maker)
                        todo.append(maker)
        return found

    @cached_property
    def _written_at(self) -> dict[int, list[int]]:
        """The writes of each tensor but for those of optimizers, in order."""
        found: dict[int, list[int]] = {}
        for op, tensor, _, _ in writes_by_program(self._index):
            if tensor not in self._stepped:
                found.setdefault(tensor, []).append(op)
        return found

    @cached_property
    def _stepped(self) -> frozenset[int]:
        """Leaves that require grad and were written: by an optimizer, or by hand."""
        index = self._index
        return frozenset(
            tensor
            for op, tensor, *_ in writes_by_program(index)
            if is_step(index, op) or index.is_leaf_with_grad(tensor, op)
        )

"""Leaves whose gradient is zero in every pass since a module's backward hook gives zeros for the module's input.

``register_full_backward_hook`` puts a node around what goes into the module and one around what comes out of it. What
lies behind the first was zeroed; the module's own parameters lie between the two.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook, RegisteredHooks
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.value_looks import PassLook, is_bad, is_zero
from gradscope.analysis.index import Index

_NODE = "BackwardHookFunctionBackward"
"""The node around what goes into a module with such a hook, and around what comes out."""


class ZeroedByHook(NamedTuple):
    """A hook, and the leaves that an optimizer steps without getting anywhere."""

    hook: RegisteredHook
    leaves: tuple[int, ...]
    passes: tuple[PassLook, ...]
    asked: tuple[PassLook, ...] = ()
    """Passes before these, while the hook was there, that gave gradients to nothing that is stepped: an input's."""


def zeroed_by_hook(
    index: Index, passes: Passes, looks: list[PassLook], hooks: RegisteredHooks, lives: GradientLives
) -> ZeroedByHook | None:
    """The hook of modules that keeps every gradient from what comes before; None where none is known to."""
    zeroing = [
        one for one in hooks.all if one.kind == "backward" and one.source.is_zero_on_purpose and one.source.returns
    ]
    looked = [look for look in looks if look.op >= zeroing[0].registered[0].op] if len(zeroing) == 1 else []
    leaves: set[int] | None = None
    asked = [look for look in looked if lives.steps.keys().isdisjoint(look.gradients)]
    looked = [look for look in looked if look not in asked]
    for look in looked:
        behind = _behind(index, passes, look)
        leaves = behind if leaves is None else leaves & behind
        if not leaves:
            return None
    stepped = tuple(sorted(leaf for leaf in leaves or () if max(lives.steps.get(leaf, ()), default=-1) > looked[0].op))
    before = tuple(look for look in asked if look.op < looked[0].op) if stepped else ()
    return ZeroedByHook(zeroing[0], stepped, tuple(looked), before) if stepped else None


def _behind(index: Index, passes: Passes, look: PassLook) -> set[int]:
    """The leaves with zeros for a gradient; none unless each lies behind more such nodes than any with another one.

    Behind two at least: the one around a module's output and the one around its input.
    """
    zero = {leaf for leaf, values in look.gradients.items() if is_zero(values)}
    if not zero or any(map(is_bad, look.gradients.values())):
        return set()
    crossed = _crossed(index, passes, look.op)
    others = [crossed[leaf] for leaf in look.gradients if leaf not in zero and leaf in crossed]
    first = min((crossed.get(leaf, 0) for leaf in zero), default=0)
    return zero if others and first >= 2 and first > max(others) else set()


def _crossed(index: Index, passes: Passes, op: int) -> dict[int, int]:
    """For each leaf that a pass came to: through how many of these nodes the way leads that has the fewest."""
    recording, starts, following = index.recording, passes.edge_starts, index.edges.values
    names, variables = recording.nodes.column("name"), recording.nodes.column("variable")
    hooked = {name for name in set(names) if recording.text(name) == _NODE}
    roots = index.root_nodes(op)
    fewest = {root: int(names[root] in hooked) for root in roots}
    waiting = deque(roots)
    while waiting:
        node = waiting.popleft()
        for after in following[starts[node] : starts[node + 1]]:
            if after < 0:
                continue
            number = fewest[node] + (names[after] in hooked)
            if after not in fewest or number < fewest[after]:
                fewest[after] = number
                waiting.append(after)
    found: dict[int, int] = {}
    for node, number in fewest.items():
        if variables[node] >= 0:
            found[variables[node]] = min(number, found.get(variables[node], number))
    return found

"""A hook on a tensor whose result is zero each time, while the gradient that it was given was not."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.behind_node_hooks import behind_node_hooks
from gradscope.analysis.facts.leaf_gradients.zeroed_by_hooks import zeroed_by_hook
from gradscope.analysis.facts.modules.effects_on_leaves import zeroed_when_accumulated
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.facts.writes import all_steps
from gradscope.analysis.report_model import Evidence

AT_LEAST = 2
"""Results that were looked at, from which on it is a warning: one may be an accident of its numbers."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that registers such a hook."""
    index = sources.index
    for hook in sources.hooks.all:
        looked, zeroed = hook.count("looked"), hook.count("zeroed")
        if not looked or zeroed != looked:
            continue
        event, returns = hook.registered[-1], hook.source.returns
        registered = sources.cause_of_event("made", event)
        causes = sources.causes_at("returned", [hook.lines(*lines) for lines in returns[:1]]) or registered
        name = sources.names.of(event.tensors[0]) if event.tensors else "a tensor"
        yield sources.finding(
            f"Line {causes[0].line if causes else 0}: {hook.name}, a hook on {name}, gives zeros for its gradient",
            why=f"{_runs(looked, hook.count('returned'))}, for a gradient that was not zero",
            op=min(event.op, index.op_count - 1),
            tensors=event.tensors[:1],
            causes=causes,
            evidence=[Evidence("events", event.row)],
            severity="note" if hook.source.is_zero_on_purpose or looked < AT_LEAST else None,
        )
    yield from _of_modules(sources)
    yield from _of_nodes(sources)
    yield from _taken(sources)


def _of_modules(sources: Sources) -> Iterator[Finding]:
    """What a module's hook keeps from those before it, as long as an optimizer steps them."""
    if all(hook.kind != "backward" for hook in sources.hooks.all):
        return
    looks = sources.looks
    found = zeroed_by_hook(sources.index, sources.passes, looks, sources.hooks, sources.lives)
    if found is None:
        return
    hook, registered = found.hook, sources.cause_of_event("made", found.hook.registered[0])
    returned = sources.causes_at("returned", [hook.lines(*lines) for lines in hook.source.returns[:1]])
    causes = [*returned, *registered]
    names = sources.listed([sources.names.of(leaf) for leaf in found.leaves])
    why = "it does not freeze the module, whose own parameters have their gradients by then"
    advice = "requires_grad_(False) on the module's parameters freezes them, and lets the gradient through."
    if found.asked:
        line, times = sources.index.op_line(found.asked[-1].op), len(found.passes)
        often = f"the {times} passes looked at" if times > 1 else "the pass looked at"
        why = f"it was registered before line {line} asked for other gradients, and is there in {often} after that"
        advice = "A hook stays until remove() of its handle is called: of each one that was registered."
    yield sources.finding(
        f"Line {causes[0].line if causes else 0}: {hook.name}, a full backward hook, gives zeros as the gradient of "
        f"its module's input, so that {names}, which come before, get nothing but zeros",
        why=why,
        op=found.passes[-1].op,
        tensors=found.leaves,
        causes=causes,
        evidence=[Evidence("events", look.event) for look in (*found.asked, *found.passes)],
        advice=advice,
    )


def _of_nodes(sources: Sources) -> Iterator[Finding]:
    """What a hook on a node of the graph keeps from those behind it, as long as an optimizer steps them."""
    for found in behind_node_hooks(sources.index, sources.passes, sources.looks, sources.lives):
        hook, function = found.hook, "a lambda" if found.hook.name == "<lambda>" else found.hook.name
        registered = sources.cause_of_line("made", found.file, hook.line, hook.end_line, hook.function)
        first, last = found.returns or (hook.first, hook.first)
        causes = [sources.cause_of_line("returned", found.file, first, last, hook.name), registered]
        names = sources.listed([sources.names.of(leaf) for leaf in found.leaves])
        yield sources.finding(
            f"Line {sources.index.line(found.file, first)}: {function}, a hook on the node that {hook.tensor} comes "
            f"from, says zeros, and every way from the loss to {names} leads through that node",
            why=f"the gradient there is all zeros in all {len(found.looks)} backward passes looked at",
            op=found.looks[-1].op,
            tensors=found.leaves,
            causes=causes,
            evidence=[Evidence("events", look.event) for look in found.looks],
            advice="requires_grad_(False) freezes parameters; detach() keeps gradients from what comes before.",
        )


def _taken(sources: Sources) -> Iterator[Finding]:
    """What a hook takes away or makes zero once it is accumulated, of what an optimizer holds and nothing moves."""
    hooks = [hook for hook in sources.hooks.all if hook.kind == "accumulated"]
    if not hooks or len(all_steps(sources.index)) < AT_LEAST:
        return
    held = {tensor for one in seen_optimizers(sources.index, sources.events) for tensor in one.tensors}
    effects = zeroed_when_accumulated(sources.hooks).values()
    for hook in hooks:
        still = [one for one in effects if one.hook is hook and not one.moved and len(one.looks) >= AT_LEAST]
        zeroed = [one.leaf for one in still]
        taken = zip(hook.leaves, hook.did.get("taken") or [], strict=False)
        gone = [leaf for leaf, (times, moved) in taken if times >= AT_LEAST and not moved]
        leaves = [leaf for leaf in gone or zeroed if leaf in held]
        if len(leaves) < len(hook.leaves) or not leaves:
            continue  # (with others it does something else: it is a choice)
        event = hook.registered[-1]
        lines = hook.source.sets_gradient[:1] or [one for one in [hook.source.calls("zero_")] if one is not None]
        registered = sources.cause_of_event("made", event)
        causes = [*sources.causes_at("cleared", [hook.lines(*one) for one in lines]), *registered]
        names = sources.listed([sources.names.of(leaf) for leaf in leaves])
        does = "takes away the gradient" if gone else "makes zero the gradient"
        yield sources.finding(
            f"Line {causes[0].line if causes else 0}: {hook.name}, a hook that runs when a gradient was accumulated, "
            f"{does} of {names} in each backward pass that was looked at",
            why="an optimizer holds them and steps were made, but none of their values moved between these",
            op=min(event.op, sources.index.op_count - 1),
            tensors=leaves,
            causes=causes,
            evidence=[Evidence("events", event.row)],
            advice="Clear gradients after the step; or step in the hook, before it clears.",
        )


def _runs(looked: int, returned: int) -> str:
    if returned == 1:
        return "in its one run"
    return f"in each of the {looked} of its {returned} runs that were looked at"


DIAGNOSIS = Diagnosis(
    code="hook-zeroes-gradient",
    title="a hook that makes a gradient zero in every pass",
    severity="warning",
    explanation=Explanation(
        meaning="""A hook on a tensor returned zeros in every run that was looked at, for a gradient that was not
            zero: nothing behind that tensor learns. Or a module's full backward hook returns zeros for grad_input, and
            the layers before the module are stepped with zeros. Or so does a hook on a node (h.grad_fn).""",
        reason="""What a tensor's hook returns takes the place of the gradient; what a module's full backward hook
            returns takes the place of that of the module's input, not of its parameters. A mask that is zero
            everywhere, or has the wrong sign or dtype, makes all of it zero; no error shows that, and .grad is not
            None.""",
        remedy="""Look at what the hook multiplies with, and at what it returns. To keep a parameter from training
            requires_grad_(False) is cheaper, and weight decay then leaves it alone too.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
mask = torch.zeros(3)
w.register_hook(lambda grad: grad * mask)
for step in range(4):
    w.exp().sum().backward()
""",
        instead_of="mask = torch.zeros(3)",
        silent="mask = torch.tensor([0.0, 1.0, 1.0])",
    ),
    find=_find,
)

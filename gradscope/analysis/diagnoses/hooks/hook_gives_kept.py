"""A hook that gives what it kept of an earlier pass: that takes the place of the gradient in all later ones."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook
from gradscope.analysis.report_model import CauseRole, Evidence

_ON_PURPOSE = re.compile(
    r"(?i)replac|overrid|overwrit|inject|substitut|stale|delay|lazy|froz|freez|fix|const|reus|repeat"
)
"""In the name of a hook: that another gradient is what it is there to give."""
_PASSES = 2


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that registers such a hook."""
    for hook in sources.hooks.all:
        if _ON_PURPOSE.search(hook.name):
            continue
        if hook.is_on_tensor and _gives_again(hook):
            yield _on_tensor(sources, hook)
        elif hook.kind in ("backward", "backward_pre"):
            yield from _on_module(sources, hook)


def _gives_again(hook: RegisteredHook) -> bool:
    """Whether it gave again, as it was, what it had given before, and never another one since."""
    if hook.count("looked") and hook.count("zeroed") == hook.count("looked"):
        return False  # (zeros: a hook that gives them is told by itself)
    return hook.count("again") > 0 or any(one.get("repeats") for one in hook.did.get("effects") or [])


def _on_tensor(sources: Sources, hook: RegisteredHook) -> Finding:
    index, source, event = sources.index, hook.source, hook.registered[0]
    is_set = hook.kind == "accumulated"
    role: CauseRole = "write" if is_set else "returned"
    lines = source.sets_gradient if is_set else source.returns
    registered = sources.cause_of_event("made", event)
    causes = [*sources.causes_at(role, [hook.lines(*one) for one in lines[-1:]]), *registered]
    tensors = list(dict.fromkeys(one.tensors[0] for one in hook.registered if one.tensors))
    names = sources.listed([sources.names.of(tensor) for tensor in tensors])
    gives = "sets .grad to" if is_set else "returns"
    return sources.finding(
        f"Line {causes[0].line if causes else 0}: {hook.name}, a hook on {names}, {gives} what it kept of an earlier "
        "pass",
        why=f"that is {'the' if is_set else 'taken for the'} gradient of each later pass, whatever the pass computes",
        op=min(event.op, index.op_count - 1),
        tensors=tensors[:1],
        causes=causes,
        evidence=[Evidence("events", event.row)],
        advice="" if is_set else "A hook that only looks at the gradient returns None.",
    )


def _on_module(sources: Sources, hook: RegisteredHook) -> Iterator[Finding]:
    """One on a module, of which the source is known alone, and that passes came after it."""
    index, event, kept = sources.index, hook.registered[0], hook.source.keeps_first()
    passes = len(sources.hooks.pass_ops) - sources.hooks.passes_before(event.op)
    is_removed = any(file.is_user and ".remove()" in file.text for file in index.recording.files)
    if kept is None or passes < _PASSES or is_removed:
        return
    causes = [*sources.causes_at("returned", [hook.lines(*kept)]), *sources.cause_of_event("made", event)]
    of = "output" if hook.kind == "backward_pre" else "input"
    yield sources.finding(
        f"Line {causes[0].line}: {hook.name}, a backward hook on a module, returns what it kept of an earlier pass",
        why=f"that is taken for the gradient of the module's {of} in each later pass, whatever the pass computes",
        op=min(event.op, index.op_count - 1),
        tensors=event.tensors[:1],
        causes=causes,
        evidence=[Evidence("events", event.row)],
        advice="A hook that only looks at the gradient returns None.",
    )


DIAGNOSIS = Diagnosis(
    code="hook-gives-kept",
    title="a hook that gives the gradient of an earlier pass",
    severity="warning",
    explanation=Explanation(
        meaning="""A hook returned a tensor that it had kept of an earlier pass (a first gradient to compare with, a
            cache), or set .grad to it, and did so again in each later pass.""",
        reason="""What a hook returns takes the place of the gradient. A function that is written for its own callers,
            and returns what they ask for, replaces the gradient where it is registered as a hook.""",
        remedy="""Register a function that keeps what is to be kept and returns None: def hook(grad): look(grad).""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
first = {}
def reference(grad):
    if "w" not in first:
        first["w"] = grad.clone()
    return first["w"]
w.register_hook(reference)
for x in (torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 6.0, 9.0])):
    w.grad = None
    (w * x).sum().backward()
""",
        instead_of='return first["w"]',
        silent='first["w"].norm()',
    ),
    find=_find,
)

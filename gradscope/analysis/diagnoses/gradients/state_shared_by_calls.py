"""A custom Function that keeps what belongs to one call where the next call overwrites it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.function_sources import WrittenBackward
from gradscope.analysis.facts.derivatives.shared_states import SharedState, shared_state
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.wording import listed
from gradscope.recording import NONE


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each Function of which one pass came through several calls."""
    for name, written in sources.functions.of_name.items():
        kept = shared_state(written)
        nodes = _of_one_pass(sources, name) if kept else []
        kept = [one for one in kept if one.argument < 0 or _differs(sources, written, one.argument, nodes)]
        if len(nodes) > 1 and kept:
            yield _finding(sources, written, kept, nodes)


def _differs(sources: Sources, written: WrittenBackward, argument: int, nodes: list[int]) -> bool:
    """Whether the calls were given other tensors as an argument, each with a graph: it may be the same for all."""
    edges = [list(sources.index.edges.of(node)) for node in nodes]
    arguments = len(written.forward.args.args) - 1 if written.forward is not None else 0
    if any(len(following) != arguments for following in edges):
        return False  # some are no tensors, and which ones is not known
    given = {following[argument] for following in edges}
    return NONE not in given and len(given) > 1


def _of_one_pass(sources: Sources, name: str) -> list[int]:
    """The nodes of a Function that the last pass came through which came through several."""
    recording, walked = sources.index.recording, sources.passes.first_walked_at
    names = recording.nodes.column("name")
    nodes = [node for node, text in enumerate(names) if walked[node] >= 0 and recording.text(text) == name]
    times = Counter(walked[node] for node in nodes)
    last = max((op for op, count in times.items() if count > 1), default=None)
    return [node for node in nodes if walked[node] == last]


def _finding(sources: Sources, written: WrittenBackward, kept: list[SharedState], nodes: list[int]) -> Finding:
    first = kept[0]
    places = listed(list(dict.fromkeys(one.place for one in kept)))
    other = sources.index.node_tensor[nodes[0]]
    forward = f"{written.name}.forward"
    keeping, reading = (written.lines_of(part).line for part in (first.keeping, first.reading))
    return sources.finding(
        f"Line {keeping}: {forward} keeps {places} past ctx, where each call overwrites what the call "
        f"before had kept, and backward (line {reading}) reads it",
        why=f"one pass came through {len(nodes)} calls of it: all but one computed their gradients with what was kept "
        "for another",
        op=sources.passes.first_walked_at[nodes[0]],
        tensors=[other] if other >= 0 else [],
        causes=[
            *sources.causes_at("made", [written.lines_of(one.keeping)._replace(function=forward) for one in kept]),
            *sources.causes_at("used", [written.lines_of(one.reading) for one in kept]),
        ],
        evidence=[Evidence("nodes", node) for node in nodes[:8]],
        advice="Keep it on ctx: ctx.save_for_backward() for tensors, an attribute of ctx for what is none.",
    )


DIAGNOSIS = Diagnosis(
    code="state-shared-by-calls",
    title="a Function that keeps what belongs to one call for all of them",
    severity="warning",
    explanation=Explanation(
        meaning="""The forward of a custom autograd.Function stores what it was given, or computed from that, on the
            class or in something global, and its backward reads it from there. One backward pass came through several
            calls of the Function.""",
        reason="""There is one such place for all calls. Each forward overwrites what the one before had stored, so in
            the backward pass all calls but the last compute with what belongs to another. Where the shapes fit,
            nothing is raised.""",
        remedy="""ctx is there for this: each call has its own. ctx.save_for_backward() keeps tensors, and numbers may
            be attributes of ctx.""",
    ),
    example=Example(
        shows="""\
import torch


class Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        Clip.inside = x.abs() < 1
        ctx.inside = x.abs() < 1
        return x.clamp(-1, 1)

    @staticmethod
    def backward(ctx, grad):
        inside = Clip.inside
        return grad * inside


w = torch.linspace(-2, 2, 5, requires_grad=True)
(Clip.apply(w) + Clip.apply(3 * w)).sum().backward()
""",
        instead_of="inside = Clip.inside",
        silent="inside = ctx.inside",
    ),
    find=_find,
)

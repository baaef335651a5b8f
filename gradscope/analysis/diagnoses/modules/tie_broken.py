"""Two layers that were given one weight, of which one was given another later: two are trained instead of one."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.assigned_loads import assigning_load
from gradscope.analysis.facts.modules.untied_parameters import Untied, untied_parameters
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.analysis.wording import listed
from gradscope.frames.modules.tied_weights import Tie, TieReplaced, replaced, ties
from gradscope.frames.names.put_on_objects import called_once
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER

PASSES = 2
"""Passes that gave both a gradient from which on it is reported."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each tie that the text has, where both sides are trained as two at the end."""
    at_end: list[dict[str, int]] | None = None
    told: set[frozenset[int]] = set()
    for number, file in enumerate(sources.index.recording.files):
        for tie in ties(file.text) if file.is_user else ():
            at_end = _named_at_end(sources) if at_end is None else at_end
            for found in next(filter(None, (list(_of_tie(sources, number, tie, names)) for names in at_end)), []):
                told.add(frozenset(one.row for one in found.evidence if one.table == "tensors"))
                yield found
    for names in _named_at_end(sources) if at_end is None else at_end:
        for untied in untied_parameters(sources.index, sources.names_held, names):
            passes = [set(sources.lives.passes.get(tensor, ())) for tensor in untied.pair]
            if len(passes[0] & passes[1]) >= PASSES and frozenset(untied.pair) not in told:
                told.add(frozenset(untied.pair))
                yield _of_untied(sources, untied, max(passes[0]))


def _of_untied(sources: Sources, untied: Untied, op: int) -> Finding:
    """A call made a parameter for each of the two names, or for one of them."""
    index, names = sources.index, sources.listed(list(untied.names))
    calls = listed(list(dict.fromkeys(index.call_name(op) for op in untied.made)))
    lines = {index.op_line(op) for op in untied.made}
    what = "load_state_dict(assign=True)" if untied.is_load else calls
    did = (
        f"{what} copied one parameter, which two modules shared, once for each of them"
        if untied.are_copies
        else f"{what} put another parameter in place of the one that was both {names}"
    )
    who = names if untied.are_copies else "they"
    return sources.finding(
        f"Line{'s' * (len(lines) > 1)} {numbers(lines)}: {did}: {who} are two since then, and are trained as two",
        op=op,
        tensors=untied.pair,
        causes=[cause for made in untied.made for cause in sources.cause("set", made)],
        evidence=[Evidence("ops", made) for made in untied.made],
        advice="Tie them again after it, or leave assign out." if untied.is_load else "Tie them again after it.",
    )


def _named_at_end(sources: Sources) -> list[dict[str, int]]:
    """Parameters by the names that held them when the run ended, and by those that were seen last in each function."""
    recording = sources.index.recording
    flags, spans, bindings = recording.tensors.column("flags"), recording.spans.column("function"), recording.bindings
    found: dict[int, dict[str, int]] = {NONE: {}}
    for name, tensor, span in zip(*map(bindings.column, ("name", "tensor", "span")), strict=True):
        if flags[tensor] & PARAMETER:
            function = spans[span] if span >= 0 else NONE
            found.setdefault(function, {})[recording.text(name)] = tensor
    return list(found.values())


def _of_tie(sources: Sources, file: int, tie: Tie, at_end: dict[str, int]) -> Iterator[Finding]:
    index = sources.index
    for name, one in at_end.items():
        ending = f".{tie.to}.{tie.part}"
        other = at_end.get(f"{name.removesuffix(ending)}.{tie.of}.{tie.part}") if name.endswith(ending) else None
        if other is None or other == one:
            continue
        passes = [sources.lives.passes.get(tensor, []) for tensor in (one, other)]
        if min(map(len, passes)) < PASSES:
            continue
        load = assigning_load(index, one, NONE)
        if load >= 0 and load == assigning_load(index, other, NONE):
            yield _of_load(sources, tie, _source_of(index, file, tie), (one, other), load, passes[0][-1])
            return
        text = index.recording.files[file].text
        changes = replaced(text, tie)
        # Where the layer still has the weight that it was made with, the tie did not run.
        made_by = index.made_by(one)
        is_own = made_by == NONE or index.op_line(made_by) in tie.own
        if not changes or is_own:
            continue
        called = called_once(text, changes[-1].line)
        causes = [sources.cause_of_line("set", file, one.line, one.end_line, "") for one in changes]
        causes += [sources.cause_of_line("used", file, *called, "")] if called is not None else []
        yield sources.finding(
            f"{_told(index, file, changes)} from here on, so that {tie.to}.{tie.part} and {tie.of}.{tie.part}, which "
            f"were one by {_source_of(index, file, tie)}, are trained as two",
            op=passes[0][-1],
            tensors=[one, other],
            causes=causes,
            evidence=[Evidence("ops", passes[1][-1])],
            advice="Write the values into the weight that is there (copy_() under torch.no_grad()), or tie them again.",
        )
        return


def _source_of(index: Index, file: int, tie: Tie) -> str:
    return " ".join(index.recording.source(file, tie.line, tie.end_line).split())


def _of_load(sources: Sources, tie: Tie, tied_by: str, pair: tuple[int, int], load: int, op: int) -> Finding:
    """A state that was saved with the tie has the weight under both names, and gives each a parameter of its own."""
    to, of = f"{tie.to}.{tie.part}", f"{tie.of}.{tie.part}"
    return sources.finding(
        f"Line {sources.index.op_line(load)}: load_state_dict(assign=True) gives {to} and {of} a parameter each, so "
        f"that they, which were one by {tied_by}, are trained as two",
        op=op,
        tensors=pair,
        causes=sources.cause("set", load),
        evidence=[Evidence("ops", load)],
        advice="Tie them again after the load, or leave assign out.",
    )


def _told(index: Index, file: int, changes: list[TieReplaced]) -> str:
    lines = numbers(index.line(file, one.line) for one in changes)
    if len(changes) == 1:
        return f"Line {lines}: {changes[0].target} is another"
    targets = " and ".join(one.target for one in changes)
    return f"Lines {lines}: {targets} are others"


DIAGNOSIS = Diagnosis(
    code="tie-broken",
    title="two layers that shared a weight and do not any more",
    severity="warning",
    explanation=Explanation(
        meaning="""A statement gave one layer the weight of another, so that the two were one. A later one gave one of
            them another layer or another parameter, or a call gave each of them one: both got gradients of their own
            from then on.""",
        reason="""head.weight = embed.weight makes two names for one parameter. An assignment changes what one name
            stands for; the other keeps the old one. to_empty() of a model that was made on the meta device,
            load_state_dict(assign=True) and a deep copy of a part make a parameter for each name.""",
        remedy="""Copy the new values into the shared parameter, or tie the two again after the change.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.embed(ids))

model = Model()
model.embed.weight = nn.Parameter(torch.randn(5, 3))
for step in range(3):
    model(torch.arange(5)).logsumexp(1).sum().backward()
""",
        instead_of="model.embed.weight = nn.Parameter(torch.randn(5, 3))",
        silent="model.embed.weight.data.copy_(torch.randn(5, 3))",
    ),
    find=_find,
)

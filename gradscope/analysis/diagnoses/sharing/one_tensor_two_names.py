"""Two names that hold one tensor, where a copy was meant: what is written under the one changes the other."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sharing.gradient_of_two import two_with_one_gradient
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.self_compared import SelfCompared, self_compared
from gradscope.analysis.facts.modules.best_is_trained import BestIsTrained, best_is_trained
from gradscope.analysis.facts.modules.copied_modules import TreatedAsTwo
from gradscope.analysis.facts.modules.hooks_in_copies import HookInCopy, hook_in_copy
from gradscope.analysis.facts.program.two_names import keys_for_one, two_names
from gradscope.analysis.report_model import Evidence
from gradscope.frames.calls.walked_by_name import walked_by_name


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each place that gave a second name."""
    index, said = sources.index, set[tuple[int, int]]()
    by_copy = {one for copied in sources.copied_as_two for one in copied.tensors if copied.mixed >= 0}
    for pair in (*two_names(index, sources.names_held), *keys_for_one(index, sources.names_held)):
        given = pair.given[0]
        if not by_copy.isdisjoint(pair.tensors):
            continue  # it is the copy that was taken for a module of its own
        written = index.statements[index.op_statement[pair.op]]
        if written.file >= 0 and walked_by_name(index.recording.files[written.file].text, index.op_line(pair.op)):
            continue  # it is the loop that walks the other model in place of this one
        said.update((pair.file, at.line) for at in pair.given)
        is_named = bool(given.of) and " and " not in given.name
        one, other = (given.name, given.of) if is_named else pair.names
        names = {index.recording.text(name) for name, _, _ in sources.names_held.get(pair.tensors[0], ())}
        what = "hold the same tensors" if is_named and given.name not in names else "are one tensor"
        shared = f"{one} and {other} {what}" if given.of else f"{given.name} holds the parameters themselves"
        used = " and ".join(pair.names)
        copy = "detach().clone()" if any(index.requires_grad(one, pair.op) for one in pair.tensors) else "clone()"
        yield sources.finding(
            f"Line {index.line(pair.file, given.line)}: {shared}, no copy was made",
            why=f"{index.call_name(pair.written)} writes in place, and {used} are used as two",
            op=pair.op,
            tensors=pair.tensors,
            causes=[sources.cause_of_line("made", pair.file, at.line, at.end_line, "") for at in pair.given],
            evidence=[Evidence("ops", pair.written)],
            advice=f"{copy}, or copy.deepcopy of a module, makes a tensor of its own.",
        )
    for copied in sources.copied_as_two:
        at = index.recording.spans[copied.copies[0].span]
        if (at.file, at.line) not in said:
            said.add((at.file, at.line))
            yield _copied(sources, copied)
    for best in best_is_trained(index, sources.names_held):
        if (best.file, best.kept.line) not in said:
            yield _best(sources, best)
    for compared in self_compared(index, sources.passes):
        is_told = compared.store.default if compared.store is not None else _is_all_there_is(sources, compared)
        hooked = hook_in_copy(index, sources.events, compared.tensor)
        if not is_told and (compared.has_graph or hooked is not None):
            yield _compared(sources, compared, hooked)
    yield from two_with_one_gradient(sources)


def _is_all_there_is(sources: Sources, compared: SelfCompared) -> bool:
    """Whether leaves get nothing but what cancels there: gradient-always-zero names the line then, and what it does."""
    index = sources.index
    cancelled = {index.op_statement[op] for blocked in sources.zero_gradients for op in blocked.cancelled}
    return index.op_statement[compared.op] in cancelled


def _compared(sources: Sources, compared: SelfCompared, hooked: HookInCopy | None) -> Finding:
    """A term of a loss that compares a tensor with itself under another name."""
    index, (one, other), store = sources.index, compared.texts, compared.store
    made = [
        sources.cause_of_line("made", compared.file, line, end_line, "")
        for line, end_line in (store.lines if store is not None else ())
    ]
    by = f"; by line {made[0].line} both are read from one object" if made else ""
    if hooked is not None:
        line = index.span_line(hooked.registered.span)
        by = f"; the hook that line {line} registered is on the copy of line {index.op_line(hooked.op)} as well"
        made = [*sources.cause("made", hooked.op), *sources.cause_of_event("set", hooked.registered)]
    return sources.finding(
        f"Line {index.op_line(compared.op)}: {index.call_name(compared.op)} compares {one} with {other}, which are one "
        "tensor",
        why=f"so in each of {compared.runs:,} runs what it gives is zero, and so is the gradient{by}",
        op=compared.op,
        tensors=[compared.tensor],
        causes=[*made, *sources.cause("used", compared.op)],
        advice="Keep the two apart: a list or dict of its own for each, or a copy."
        if hooked is None
        else "Make the copy before the hook is registered, or remove the hook from the copy.",
    )


def _best(sources: Sources, best: BestIsTrained) -> Finding:
    """A module that is called the best so far, and that is the one which is trained on."""
    kept = best.kept
    cause = sources.cause_of_line("made", best.file, kept.line, kept.end_line, "")
    return sources.finding(
        f"Line {cause.line}: {kept.name} is {kept.of} itself, no copy was made",
        why="the steps that follow change both",
        op=best.step,
        tensors=best.tensors,
        causes=[cause],
        advice=f"copy.deepcopy({kept.of}) makes a module of its own.",
    )


def _copied(sources: Sources, copied: TreatedAsTwo) -> Finding:
    """A module that ``copy.copy`` copied: one object more, with the same parameters."""
    (first, *_), of = copied.copies, copied.of
    causes = sources.cause_of_event("made", first)
    steps, since = f"{copied.steps:,} step{'s' * (copied.steps > 1)}", "since changed both"
    if copied.optimizers:
        why = (
            f"{copied.optimizers} optimizers were made since, and each of the {steps} changed {of} and every copy of it"
        )
    elif copied.mixed >= 0:
        call = sources.index.call_name(copied.mixed)
        why = f"{steps} {since}, and {call} gives its parameters their own values"
    else:
        why = f"{steps} since changed {copied.name} with it"
    return sources.finding(
        f"Line {causes[0].line}: copy.copy({of}) copies no parameter, its copy holds those of {of}",
        why=why,
        op=copied.last_step,
        tensors=copied.tensors,
        causes=causes,
        evidence=[Evidence("events", copy.row) for copy in copied.copies],
        advice=f"copy.deepcopy({of}) makes a module of its own.",
    )


DIAGNOSIS = Diagnosis(
    code="one-tensor-two-names",
    title="two names that are one tensor",
    severity="warning",
    explanation=Explanation(
        meaning="""An assignment gave a tensor, or a module, a second name. A write in place changed it, and a
            statement then used both names as if they were two things: it mixed the one into the other, compared them,
            or read both. Or copy.copy() made several copies of a module, for each of which an optimizer was made, or
            one that is called best or target while steps went on, or that a statement mixed with the module itself.
            Or a loop keeps the module that it trains under the name of the best so far. Or a term of a loss compares
            a tensor with itself, by two expressions and each time that it runs: where a deep copy has the hook as well
            that stores what the module gave, too. Or .grad of two parameters was given one gradient tensor, as
            torch.autograd.grad gives it for two that are added, and something wrote it in place for each of them.""",
        reason="""noisy = clean, self.target = self.policy, copy.copy(model) and {"x": t, "y": t} make no copy of any
            tensor. What is written under the one name is read under the other.""",
        remedy="""Take a copy where the second name is given: clean.clone(), copy.deepcopy(policy), or
            load_state_dict() into a module of its own.""",
    ),
    example=Example(
        shows="""\
import torch

clean = torch.zeros(3)
noisy = clean
noisy += torch.ones(3)
print((noisy - clean).abs().sum())
""",
        instead_of="noisy = clean",
        silent="noisy = clean.clone()",
    ),
    find=_find,
)

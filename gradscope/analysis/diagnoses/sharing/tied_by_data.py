"""Two parameters on one memory, by ``.data``, ``set_`` or ``nn.Parameter``: an optimizer steps them as two."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.stepped_as_two import SteppedAsTwo, stepped_as_two
from gradscope.analysis.facts.memory_writes.tables_of_one import TablesOfOne, tables_of_one
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.facts.reaching.wrapped_parameters import WrappedParameters
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.modules.weights_wrapped_again import wrapped_again


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that put a parameter on the memory of another, as long as both are stepped."""
    index, said = sources.index, set[tuple[str, int]]()
    optimizers = seen_optimizers(index, sources.events)
    for pair in stepped_as_two(index, sources.lives, sources.sharing, optimizers):
        states = _states(pair)
        put = _put(sources, pair) if states else None
        if put is not None and (put[0].file, put[0].line) not in said:
            said.add((put[0].file, put[0].line))
            yield _finding(sources, pair, *put, states)
    for tables in tables_of_one(index, sources.lives, sources.events):
        yield _of_tables(sources, tables)


def _states(pair: SteppedAsTwo) -> str:
    """What an optimizer does twice to the one memory; empty where its two steps add up to that of the sum.

    SGD is linear in the gradient, with its momentum: only the decay counts twice.
    """
    own = "each gets its own part of the gradient, and each step"
    if pair.holder.name != "SGD":
        return f"{own} writes the one memory twice, by two states"
    return f"{own} decays the one memory twice" if pair.holder.setting(pair.leaf, "weight_decay") else ""


def _put(sources: Sources, pair: SteppedAsTwo) -> tuple[Cause, str] | None:
    """The statement that put the one on the memory of the other, and what it did; None where the text has it not."""
    index, name, of = sources.index, sources.names.of(pair.leaf), sources.names.of(pair.other)
    if pair.put_by >= 0:
        how = "set_()" if index.func(pair.put_by) == "Tensor.set_" else ".data"
        causes = sources.cause("set", pair.put_by)
        return (causes[0], f"{name} is put on the memory of {of} by {how}") if causes else None
    weight, made = _names(sources, pair.other), _names(sources, pair.leaf)
    made_by = f"makes {name} a second parameter on the memory of {of}"
    for number, file in enumerate(index.recording.files):
        again = wrapped_again(file.text, weight, made) if file.is_user else None
        if again is not None:
            return sources.cause_of_line("made", number, again.line, again.end_line, ""), f"{again.by} {made_by}"
    wrap = WrappedParameters(index).at(pair.leaf)
    return (sources.causes_at("made", [wrap.at])[0], f"nn.{wrap.by} {made_by}") if wrap is not None else None


def _names(sources: Sources, tensor: int) -> set[str]:
    return {sources.index.recording.text(name) for name, _, _ in sources.names_held.get(tensor, ())}


def _finding(sources: Sources, pair: SteppedAsTwo, cause: Cause, what: str, why: str) -> Finding:
    index, steps = sources.index, pair.steps
    is_alike = index.layout_at(pair.leaf, index.op_count) == index.layout_at(pair.other, index.op_count)
    moved = "; a move to another device or type parts the two" if pair.put_by >= 0 else ""
    return sources.finding(
        f"Line {cause.line}: {what}, and both stay parameters of their own ({index.times(steps):,} steps of "
        f"{pair.holder.name} of both)",
        why=f"{why}{moved}",
        op=pair.put_by if pair.put_by >= 0 else steps[0],
        tensors=[pair.leaf, pair.other],
        causes=[cause],
        evidence=[Evidence("ops", steps[-1])],
        advice="Give both layers the one parameter: a.weight = b.weight."
        if is_alike
        else "Use the one parameter in both places, and take the view of it where it is used.",
    )


def _of_tables(sources: Sources, tables: TablesOfOne) -> Finding:
    """Two embeddings that are trained apart, on the memory of the vectors that both were made of."""
    index, one, other = sources.index, sources.names.of(tables.first), sources.names.of(tables.second)
    return sources.finding(
        f"Line {index.span_line(tables.event.span)}: from_pretrained copies nothing, and {one} and {other} are on the "
        "memory of one tensor",
        why=f"{index.times(tables.steps):,} steps of the one changed the other, which is trained by steps of its own "
        f"and used at line {index.op_line(tables.used)}",
        op=tables.used,
        tensors=[tables.first, tables.second],
        causes=sources.cause_of_event("made", tables.event),
        evidence=[Evidence("ops", tables.steps[-1]), Evidence("events", tables.event.row)],
        advice="Give each a copy: from_pretrained(vectors.clone(), freeze=False).",
    )


DIAGNOSIS = Diagnosis(
    code="tied-by-data",
    title="two parameters on one memory, stepped as two",
    severity="warning",
    explanation=Explanation(
        meaning="""x.weight.data = y.weight.data, or x.weight = nn.Parameter(y.weight), put one parameter on the memory
            of another. Both got gradients of their own, and an optimizer that keeps a state for each, or decays them,
            stepped both. Or two embeddings that from_pretrained made of one tensor are trained by different steps.""",
        reason="""Memory is shared, not the parameter: parameters() lists two, each with its own .grad. The steps of
            both are written to the one memory, after one another. model.to(...) gives each memory of its own.""",
        remedy="""Tie the parameter itself: x.weight = y.weight, before the optimizer is made.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

embed, head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
head.weight.data = embed.weight.data
optimizer = torch.optim.Adam([*embed.parameters(), *head.parameters()])
for step in range(3):
    optimizer.zero_grad()
    head(embed(torch.arange(5))).pow(2).sum().backward()
    optimizer.step()
""",
        instead_of="head.weight.data = embed.weight.data",
        silent="head.weight.data.copy_(embed.weight.data)",
    ),
    find=_find,
)

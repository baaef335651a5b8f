"""An evaluation that builds up the graphs of all its rounds, since gradients are on: ``no_grad`` is missing."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory.keepers import keeper
from gradscope.analysis.facts.modes.kept_in_evaluation import BuiltUp, kept_in_evaluation
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.names.given_names import function_around


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that joins results or adds them up, about the last time."""
    last: dict[int, BuiltUp] = {}
    for one in kept_in_evaluation(sources.index, sources.passes, sources.events):
        made_at = sources.index.recording.tensors.column("op")[one.tensors[-1]]
        if sources.tracked_behind.isdisjoint((one.op, made_at)):  # else the no_grad() is said to be the cause
            last[sources.index.op_statement[one.op]] = one
    for one in last.values():
        yield _finding(sources, one)


def _finding(sources: Sources, built: BuiltUp) -> Finding:
    index = sources.index
    whole = [] if built.runs_passes else _function(sources, built)  # no_grad around a pass would make it fail
    causes = [*whole, *_keeping(sources, built)]
    line = causes[0].line if causes else index.op_line(built.op)
    how = "adds up" if built.is_sum else "keeps"
    results = f"{index.times_made(built.tensors):,} results"
    return sources.finding(
        f"Line {line}: an evaluation {how} {results} with graphs that no backward pass walks",
        why="gradients are on, and all that these rounds save for backward is there till the end of them",
        op=built.op,
        tensors=[built.tensors[-1]],
        causes=causes,
        evidence=[Evidence("tensors", tensor) for tensor in built.tensors],
        advice="detach() of what is kept lets go of its graph."
        if built.runs_passes
        else "Put it under torch.no_grad(); eval() does not switch gradients off.",
    )


def _function(sources: Sources, built: BuiltUp) -> list[Cause]:
    """The function that joins the results; the loop's own statement is the cause where there is none."""
    index = sources.index
    statement = index.statements[index.op_statement[built.op]]
    first, _ = function_around(index.recording.files[statement.file].text, statement.line)
    if first <= 1:
        return []
    return [sources.cause_of_line("made", statement.file, first, first, index.op_place(built.op).function)]


def _keeping(sources: Sources, built: BuiltUp) -> list[Cause]:
    """The line that adds a result, or puts it into the list that is joined."""
    index = sources.index
    if built.is_sum:
        return sources.cause("made", built.op)
    kept_by = keeper(index, built.tensors, sources.names_held)
    if kept_by is None:
        made = index.recording.tensors.column("op")[built.tensors[-1]]
        is_here = index.op_place(made).function == index.op_place(built.op).function
        return sources.cause("made", made) if is_here else []
    put = kept_by.put
    return [sources.cause_of_line("made", kept_by.file, put.line, put.end_line, put.function)]


DIAGNOSIS = Diagnosis(
    code="evaluated-with-graph",
    title="an evaluation that keeps the graphs of all its rounds",
    severity="warning",
    explanation=Explanation(
        meaning="""While a module was in evaluation mode, or in a function that is called an evaluation, results of
            several rounds were kept with their graphs and joined or added up. No backward pass ever walked them,
            though the program runs such passes elsewhere.""",
        reason="""eval() changes what dropout and batch norm do; gradients stay on. Each result keeps its graph, and
            that all that was saved for backward, so that memory grows with each round.""",
        remedy="""@torch.no_grad() on the function, or with torch.no_grad(): around its loop; or detach() of what is
            kept: that alone where autograd.grad runs inside, which needs a graph.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
layer(torch.ones(2, 3)).sum().backward()

def predict():
    layer.eval()
    results = [layer(torch.ones(2, 3)) for batch in range(4)]
    return torch.cat(results)

predict()
""",
        instead_of="def predict():",
        silent="@torch.no_grad()\ndef predict():",
    ),
    find=_find,
)

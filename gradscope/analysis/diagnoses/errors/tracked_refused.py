"""What torch refuses on a tensor that requires grad: handing it to numpy or to another process, and ``out=``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory.kept_results import only_put_into
from gradscope.analysis.report_model import Cause, Severity
from gradscope.frames.syntax_trees import parsed

_NUMPY = "numpy() on Tensor that requires grad"
_PROCESS = "refusing to serialize non-leaf tensor which requires_grad"
_OUT = "with out=... arguments don't support automatic differentiation"


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that raised, the last of each."""
    index = sources.index
    raised = sources.raised(_NUMPY, _OUT)
    last = {index.op_statement[op]: (op, message, severity) for op, message, severity in raised if index.uses.of(op)}
    for op, message, severity in last.values():
        yield _of_out(sources, op, severity) if _OUT in message else _of_numpy(sources, op, severity)
    yield from _of_process(sources)


def _of_numpy(sources: Sources, op: int, severity: Severity | None) -> Finding:
    index, tensor = sources.index, sources.index.uses.of(op)[0]
    name, put = sources.names.at(tensor, op), _put_at(sources, op)
    by_way = f", and line {put[0].line} keeps it as it is" if put else ""
    return sources.finding(
        f"Line {index.op_line(op)}: numpy was refused the values of {name}, which requires grad{by_way}",
        op=op,
        tensors=[tensor],
        causes=[*put, *sources.cause("used", op)],
        advice="Hand over detach() of it, or item() of a single number, where no gradient is to come back through it.",
        severity=severity,
    )


def _of_out(sources: Sources, op: int, severity: Severity | None) -> Finding:
    index = sources.index
    taken = index.uses.of(op)
    tensor = next((one for one in taken if index.requires_grad(one, op)), taken[0])
    return sources.finding(
        f"Line {index.op_line(op)}: {index.call_name(op)} was refused, since {sources.names.at(tensor, op)} requires "
        "grad, and autograd does not follow what is written by out=",
        op=op,
        tensors=[tensor],
        causes=sources.cause("used", op),
        advice="Take the result that it returns without out=, or compute under torch.no_grad().",
        severity=severity,
    )


def _of_process(sources: Sources) -> Iterator[Finding]:
    """What ended the program was no call of a torch function: a queue, a pipe or a process that pickles a tensor."""
    index, outcome = sources.index, sources.index.recording.info.outcome
    if outcome.kind != "exception" or _PROCESS not in outcome.message or outcome.file < 0 or not index.op_count:
        return
    given = _given_at(index.recording.files[outcome.file].text, outcome.line)
    tensor = _seen_last(sources, given)
    name = sources.names.of(tensor) if tensor is not None else min(given) if len(given) == 1 else "a result"
    cause = sources.cause_of_line("used", outcome.file, outcome.line, outcome.line, "")
    yield sources.finding(
        f"Line {index.line(outcome.file, outcome.line)}: another process was refused {name}, which has a graph",
        why="a graph stays in the process that made it, and what leaves it would lose the way to its parameters",
        op=index.op_count - 1,
        tensors=[] if tensor is None else [tensor],
        causes=[cause],
        advice="Hand over detach() of it; gradients can be sent as tensors of their own.",
    )


def _given_at(text: str, line: int) -> set[str]:
    """The names and attributes among the arguments of the calls at a line."""
    tree = parsed(text)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)] if tree is not None else []
    return {
        ast.unparse(part)
        for call in calls
        for one in (call.args if call.lineno <= line <= (call.end_lineno or call.lineno) else ())
        for part in ast.walk(one)
        if isinstance(part, ast.Name | ast.Attribute)
    }


def _seen_last(sources: Sources, names: set[str]) -> int | None:
    """The tensor with a graph that was seen last under one of some names; None where none was."""
    nodes, text = sources.index.recording.tensors.column("node"), sources.index.recording.text
    seen = [
        (op, tensor)
        for tensor, rows in sources.names_held.items()
        for name, op, _ in rows
        if nodes[tensor] >= 0 and text(name) in names
    ]
    return max(seen)[1] if seen else None


def _put_at(sources: Sources, op: int) -> list[Cause]:
    """The only line that puts something into a list of which the statement takes the values."""
    index = sources.index
    if not index.func(op).endswith("__array__"):
        return []
    statement = index.statements[index.op_statement[op]]
    tree = parsed(index.recording.files[statement.file].text) if statement.file >= 0 else None
    names = [
        ast.unparse(node)
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Name | ast.Attribute) and statement.line <= node.lineno <= statement.end_line
    ]
    places = dict.fromkeys(place for name in names if (place := only_put_into(index, name)) is not None)
    return [sources.cause_of_line("saved", file, line, line, "") for file, line in places]


DIAGNOSIS = Diagnosis(
    code="tracked-refused",
    title="numpy, out= or another process met a tensor that requires grad",
    severity="problem",
    explanation=Explanation(
        meaning="""A call raised since a tensor that it was given requires grad: the tensor was to be handed to numpy
            (numpy(), np.array, plt.plot), to be pickled for another process (a queue, a pipe), or to go into an
            operation that writes its result by out=.""",
        reason="""What leaves torch leaves the graph, and what out= overwrites may be needed by it. torch refuses
            instead of dropping the gradient without a word.""",
        remedy="""For values only, use detach() (and cpu(), item() for a single number), best where they are kept: a
            list of losses then holds no graphs either. Where the gradient is needed, stay with torch's functions and
            their results.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
values = (w * 2).numpy()
""",
        instead_of="values = (w * 2).numpy()",
        silent="values = (w * 2).detach().numpy()",
    ),
    find=_find,
)

"""Gradients that are a term of a loss and have no graph, and what of the program leaves them without one."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.graphs_in_training import decision_by_mode, left_without_graph
from gradscope.analysis.facts.modules.module_words import module_word
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.calls.argument_values import Argument, place_of_value
from gradscope.frames.calls.given_keywords import keyword_line
from gradscope.frames.values.graph_decisions import called_beside
from gradscope.frames.values.number_terms import is_decided_outside

_CREATE_GRAPH = Argument("grad", "create_graph", -1, (False,))


def graph_not_made(sources: Sources, tensor: int, at: int, root: int, cuts: list[int]) -> Finding:
    """What is said of a term of a loss that was computed from gradients without a graph.

    Args:
        sources: The facts.
        tensor: The term.
        at: The op that adds it.
        root: The loss.
        cuts: The calls that gave the gradients: that of what steps train comes before that of a target.
    """
    index, trained = sources.index, sources.lives.steps.keys()
    cut = max([one for one in cuts if trained & sources.passes.leaves_behind(*index.root_nodes(one))] or cuts)
    caller = _caller_that_decides(sources, cut)
    if left := _left_in_evaluation(sources, tensor, at, root, cut, caller):
        return left
    called = f" (called at line {index.line(caller.file, caller.line)})" if caller is not None else ""
    asks = _asks(sources, cut)
    line = asks[0].line if asks else index.op_line(cut)
    named = caller.causes if caller is not None else asks
    false = _given_as_false(sources, cut, [*asks, *named])
    said = f": create_graph is False by line {false[0].line}" if false else ""
    return sources.finding(
        f"Line {index.op_line(at)}: {sources.names.at(tensor, at)} is a term of {sources.names.of(root)}, and no "
        "gradient flows through it",
        why=f"it comes from the gradients of line {line}{called}, which are constants without create_graph{said}",
        op=at,
        tensors=[tensor],
        causes=[*named, *false],
        evidence=[Evidence("ops", cut)],
        advice="Where it is to be trained, call autograd.grad with create_graph=True.",
    )


def _given_as_false(sources: Sources, cut: int, said: list[Cause]) -> list[Cause]:
    """The line elsewhere at which what a call is given as ``create_graph`` gets its value: a default, an attribute."""
    index, files = sources.index, sources.index.recording.files
    where = index.statements[index.op_statement[cut]]
    texts = [file.text for file in files]
    found = place_of_value(texts, where.file, index.op_line(cut), _CREATE_GRAPH)
    if found is None or (found.file == where.file and found.line in (index.op_line(cut), *(one.line for one in said))):
        return []
    return [sources.cause_of_line("set", found.file, found.line, found.line, "")]


def _line_of(sources: Sources, cut: int, caller: _Caller | None) -> int:
    """The line of a caller in the same file; 0 for none."""
    file = sources.index.statements[sources.index.op_statement[cut]].file
    return caller.line if caller is not None and caller.file == file else 0


def _decided_by_mode(sources: Sources, cut: int, called_at: int) -> list[Cause]:
    """The line at which a graph is asked for in training mode only."""
    index, decision = sources.index, decision_by_mode(sources.index, cut, called_at)
    if decision is None:
        return []
    where = index.statements[index.op_statement[cut]]
    function = index.recording.text(where.function)
    return [sources.cause_of_line("cut", where.file, decision.line, decision.line, function)]


def _left_in_evaluation(
    sources: Sources, tensor: int, at: int, root: int, cut: int, caller: _Caller | None
) -> Finding | None:
    """A graph that is asked for in training mode only, of a model that an evaluation left in the other."""
    index, called_at = sources.index, _line_of(sources, cut, caller)
    call = left_without_graph(index, sources.passes, sources.events, cut, called_at)
    if call is None:
        return None
    module = module_word(index, sources.names, call)
    return sources.finding(
        f"Line {index.span_line(call.event.span)}: eval() leaves {module} in evaluation mode, and no gradient flows "
        f"through {sources.names.at(tensor, at)}, a term of {sources.names.of(root)}",
        why=f"it comes from the gradients of line {index.op_line(cut)}, which have a graph in training mode only",
        op=at,
        tensors=[tensor],
        causes=[*sources.cause_of_span("set", call.event.span), *_decided_by_mode(sources, cut, called_at)],
        evidence=[Evidence("ops", cut), Evidence("events", call.event.row)],
        advice="Call train() before training goes on, or ask for the graph in evaluation mode too.",
    )


def _asks(sources: Sources, cut: int) -> list[Cause]:
    """The line at which a call for gradients, which may have several, is told whether to make a graph; or its own."""
    index = sources.index
    where, line = index.statements[index.op_statement[cut]], index.op_line(cut)
    text = index.recording.files[where.file].text if where.file >= 0 else ""
    given = keyword_line(text, line, "grad", "create_graph")
    if given in (0, line):
        return sources.cause("cut", cut)
    return [sources.cause_of_line("cut", where.file, given, given, index.recording.text(where.function))]


class _Caller(NamedTuple):
    """Where a function was called that leaves it to its caller whether a graph is made."""

    file: int
    line: int
    causes: list[Cause]


def _caller_that_decides(sources: Sources, cut: int) -> _Caller | None:
    """By what uses the gradients outside of the function first: in the statement of the call, or in its function."""
    index = sources.index
    statement = index.statements[index.op_statement[cut]]
    name = index.recording.text(statement.function).rpartition(".")[2]
    source = index.recording.files[statement.file].text if statement.file >= 0 else ""
    if not name.isidentifier() or not is_decided_outside(source, index.op_line(cut), index.span_source(cut)):
        return None
    taken, seen = list(index.tensors_made(cut)), set[int]()
    while taken:
        tensor = taken.pop()
        for op in index.users.of(tensor):
            where = index.statements[index.op_statement[op]]
            if (where.file, where.function) != (statement.file, statement.function):
                if f"{name}(" in index.op_place(op).source:
                    return _Caller(where.file, index.op_line(op), sources.cause("cut", op))
                return _called_before(sources, op, name)
            if op not in seen:
                seen.add(op)
                taken += index.tensors_made(op)
    return None


def _called_before(sources: Sources, op: int, name: str) -> _Caller | None:
    """The only call of a function in the one around an op."""
    index = sources.index
    where = index.statements[index.op_statement[op]]
    text = index.recording.files[where.file].text if where.file >= 0 else ""
    line = called_beside(text, index.op_line(op), name)
    if not line:
        return None
    function = index.recording.text(where.function)
    return _Caller(where.file, line, [sources.cause_of_line("cut", where.file, line, line, function)])

"""Gradients asked for with ``create_graph=self.training``, of a model in evaluation mode: they have no graph."""

from __future__ import annotations

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.frames.values.graph_decisions import GraphDecision, graph_decision, mode_given


def left_without_graph(index: Index, passes: Passes, events: Events, op: int, caller: int = 0) -> ModeCall | None:
    """The call of ``eval()`` by which a call of ``autograd.grad`` made no graph; None where it is not that.

    Args:
        index: The recording.
        passes: Its backward passes.
        events: What happened beside calls of torch functions.
        op: The call of ``autograd.grad``.
        caller: The line of the same file at which the function around was called; 0 where that is not known.
    """
    decision = None if op in index.creating_graphs else decision_by_mode(index, op, caller)
    if decision is None:
        return None
    leaves = passes.leaves_behind(*index.root_nodes(op))
    calls = (one for one in reversed(TrainingModes(events).calls) if one.op <= op)
    last = next((one for one in calls if not one.parameters.isdisjoint(leaves)), None)
    return None if last is None or last.training or last.by_library else last


def decision_by_mode(index: Index, op: int, caller: int = 0) -> GraphDecision | None:
    """The expression by which a call of ``autograd.grad``, or its caller, asks for a graph in training mode only."""
    where = index.statements[index.op_statement[op]]
    text = index.recording.files[where.file].text if where.file >= 0 else ""
    found = graph_decision(text, index.op_line(op)) if ".training" in text else None
    if found is None or found.by_mode or not found.parameter or not caller:
        return found if found is not None and found.by_mode else None
    function = index.recording.text(where.function).rpartition(".")[2]
    return mode_given(text, caller, function, found.parameter)

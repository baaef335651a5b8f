"""Gradients asked for with ``create_graph=self.training``, of a model in evaluation mode: they have no graph."""

from __future__ import annotations

import re

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index

_AS_IN_TRAINING = re.compile(r"\bcreate_graph\s*=\s*(\w+\.)+training\b")


def left_without_graph(index: Index, passes: Passes, events: Events, op: int) -> ModeCall | None:
    """The call of ``eval()`` by which a call of ``autograd.grad`` made no graph; None where it is not that."""
    if op in index.creating_graphs or not _AS_IN_TRAINING.search(index.span_source(op)):
        return None
    leaves = passes.leaves_behind(*index.root_nodes(op))
    calls = (one for one in reversed(TrainingModes(events).calls) if one.op <= op)
    last = next((one for one in calls if not one.parameters.isdisjoint(leaves)), None)
    return None if last is None or last.training or last.by_library else last

"""Dropout that is called as a function without ``training=``, or made in forward: it is active in evaluation too."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.mode_runs import DROPOUTS
from gradscope.analysis.facts.modes.training_modes import TrainingModes
from gradscope.analysis.report_model import Evidence
from gradscope.recording.flags import GRAD, INFERENCE

_TRAINING = 3
"""Arguments by position from which on one is ``training``."""


def _find(sources: Sources) -> Iterator[Finding]:
    """Calls by which both a training pass and, after ``eval()``, a pass without gradients dropped values."""
    index, modes = sources.index, TrainingModes(sources.events)
    if all(call.training for call in modes.calls):
        return
    flags, spans = (index.recording.ops.column(name) for name in ("flags", "span"))
    trained: set[int] = set()
    found: dict[int, int] = {}
    for op in index.calls_of(DROPOUTS.__contains__):
        if not index.tensors_made(op) or spans[op] < 0:
            continue
        call = next((one for one in reversed(modes.calls) if one.op <= op), None)
        if flags[op] & (GRAD | INFERENCE) == GRAD:
            trained.add(spans[op])
        elif call is not None and not call.training:
            found[spans[op]] = op
    for span, op in found.items():
        if span in trained and _has_no_mode(index.span_source(op, exact=True)):
            yield _finding(sources, modes, op)


def _has_no_mode(source: str) -> bool:
    """Whether a call says nothing of ``training``: by its text a function, or a module that is made for the call."""
    try:
        call = ast.parse(source, mode="eval").body
    except SyntaxError:
        return False
    if not isinstance(call, ast.Call):
        return False
    if isinstance(call.func, ast.Call):
        return "Dropout" in ast.unparse(call.func.func)
    has_it = len(call.args) >= _TRAINING or any(one.arg in ("training", None) for one in call.keywords)
    return "dropout" in ast.unparse(call.func) and not has_it and not any(_is_star(one) for one in call.args)


def _is_star(argument: ast.expr) -> bool:
    return isinstance(argument, ast.Starred)


def _finding(sources: Sources, modes: TrainingModes, op: int) -> Finding:
    index = sources.index
    last = next(one for one in reversed(modes.calls) if one.op <= op)
    return sources.finding(
        f"Line {index.op_line(op)}: {index.func(op)} drops values after eval() as well",
        why="the call does not depend on the mode of the module that it is in",
        op=op,
        tensors=index.tensors_made(op)[:1],
        causes=sources.cause("used", op),
        evidence=[Evidence("events", last.event.row)],
        advice="Pass training=self.training, or keep an nn.Dropout that __init__ makes (training=True says that it is "
        "meant).",
    )


DIAGNOSIS = Diagnosis(
    code="dropout-in-evaluation",
    title="dropout is active in evaluation",
    severity="warning",
    explanation=Explanation(
        meaning="""F.dropout without training=, or an nn.Dropout that forward makes for the call, dropped values in
            training and, after eval(), in a pass without gradients too.""",
        reason="""F.dropout is a function: its training argument is True unless it is passed. eval() reaches modules
            that are registered, not functions, and not modules that are made anew in each call.""",
        remedy="""F.dropout(x, p, training=self.training), or self.dropout = nn.Dropout(p) in __init__.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x):
        x = F.dropout(x, 0.5)
        return self.layer(x)

net = Net()
net(torch.ones(2, 3)).sum().backward()
net.eval()
with torch.no_grad():
    net(torch.ones(2, 3))
""",
        instead_of="x = F.dropout(x, 0.5)",
        silent="x = F.dropout(x, 0.5, training=self.training)",
    ),
    find=_find,
)

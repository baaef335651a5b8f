"""Dropout that is called as a function without ``training=``, or made in forward: it is active in evaluation too.

So is that of scaled_dot_product_attention, which is told ``dropout_p`` and knows no mode: the share that it was given
in evaluation is recorded. And so is one with ``training=True``, which may be meant: only beside others that evaluation
turned off, in a program that says nothing of it and does not draw several results for one input.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.mode_of_op import mode_of_op
from gradscope.analysis.facts.modes.mode_runs import DROPOUTS
from gradscope.analysis.facts.modes.training_modes import TrainingModes
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.frames.names.given_names import function_around
from gradscope.recording import NONE
from gradscope.recording.flags import GRAD, INFERENCE
from gradscope.recording.rows import EventKind

_TRAINING = 3
"""Arguments by position from which on one is ``training``."""
_ATTENTION = "F.scaled_dot_product_attention"
_SAMPLES = 3
"""Evaluations of one input with nothing trained between them, from which on they are samples."""
_SAMPLES_MODELS = re.compile(
    r"(?i)(\b|_)mc(\b|_|drop|sampl)|mcdrop|monte|bayes|uncertain|stochast|epistem|posterior|ensembl|variational"
)
"""What a program says that evaluates with dropout so as to have several results."""
_IS_MEANT = re.compile(
    r"(?i)(\b|_)mc(\b|_|drop|sampl)|mcdrop|monte|bayes|uncertain|stochast|epistem|posterior|ensembl|prenet|variational|"
    r"always|on purpose|deliberate|intention|intended|even (in|at|during)|(test|inference)[ _-]time|n(um)?_samples|"
    r"\bsamples\b|noise"
)
"""What a program says in which dropout belongs to the evaluation."""


def _find(sources: Sources) -> Iterator[Finding]:
    """Calls by which both a training pass and, after ``eval()``, a pass without gradients dropped values."""
    index, modes = sources.index, TrainingModes(sources.events)
    if all(call.training for call in modes.calls):
        return
    flags, spans = (index.recording.ops.column(name) for name in ("flags", "span"))
    shares = {one.subject for one in sources.events.of(EventKind.FACTOR) if one.detail.get("drops")}
    trained: set[int] = set()
    found: dict[int, int] = {}
    idle: dict[tuple[int, int], int] = {}
    for op in index.calls_of(lambda name: name in DROPOUTS or name == _ATTENTION):
        if spans[op] < 0 or (index.func(op) == _ATTENTION and op not in shares):
            continue
        call = mode_of_op(index, modes, op)
        if flags[op] & (GRAD | INFERENCE) == GRAD:
            if index.tensors_made(op):
                trained.add(spans[op])
        elif call is not None and not call.training:
            if index.tensors_made(op):
                found[spans[op]] = op
            else:
                idle.setdefault(_function(index, op), op)
    for span, op in found.items():
        if index.func(op) == _ATTENTION:
            if span in trained and not _draws_samples(sources, modes, flags, _SAMPLES_MODELS):
                yield _of_attention(sources, modes, op)
            continue
        call_node = _call(index.span_source(op, exact=True)) if span in trained else None
        if call_node is None:
            continue
        if _has_no_mode(call_node):
            yield _finding(sources, modes, op)
        elif _is_always_on(call_node):
            other = idle.get(_function(index, op))
            if other is not None and not _draws_samples(sources, modes, flags, _IS_MEANT):
                yield _finding(sources, modes, op, other)


def _call(source: str) -> ast.Call | None:
    try:
        call = ast.parse(source, mode="eval").body
    except SyntaxError:
        return None
    return call if isinstance(call, ast.Call) else None


def _has_no_mode(call: ast.Call) -> bool:
    """Whether a call says nothing of ``training``: by its text a function, or a module that is made for the call."""
    if isinstance(call.func, ast.Call):
        return "Dropout" in ast.unparse(call.func.func)
    has_it = len(call.args) >= _TRAINING or any(one.arg in ("training", None) for one in call.keywords)
    return "dropout" in ast.unparse(call.func) and not has_it and not any(_is_star(one) for one in call.args)


def _is_always_on(call: ast.Call) -> bool:
    """Whether it is a function that is told ``True``, as it stands, for ``training``."""
    given = [one.value for one in call.keywords if one.arg == "training"] or call.args[_TRAINING - 1 : _TRAINING]
    is_true = any(isinstance(one, ast.Constant) and one.value is True for one in given)
    return is_true and "dropout" in ast.unparse(call.func) and not any(_is_star(one) for one in call.args)


def _function(index: Index, op: int) -> tuple[int, int]:
    """The file and the first line of the function in which a call stands."""
    span = index.recording.spans[index.recording.ops.column("span")[op]]
    if span.file < 0:
        return span.file, span.line
    return span.file, function_around(index.recording.files[span.file].text, span.line)[0]


def _draws_samples(sources: Sources, modes: TrainingModes, flags: Sequence[int], words: re.Pattern[str]) -> bool:
    """Whether the program says that dropout belongs to its evaluation, or evaluates one input again and again."""
    index = sources.index
    if any(file.is_user and words.search(file.text) for file in index.recording.files):
        return True
    given: Counter[tuple[int, int, tuple[int, ...]]] = Counter()
    spans = index.recording.ops.column("span")
    for one in range(modes.calls[0].op, index.op_count):
        call, uses = modes.in_force(one), tuple(index.uses.of(one))
        if call is not None and not call.training and len(uses) > 1 and flags[one] & (GRAD | INFERENCE) != GRAD:
            given[sources.hooks.passes_before(one), spans[one], uses] += 1
    return any(count >= _SAMPLES for count in given.values())


def _is_star(argument: ast.expr) -> bool:
    return isinstance(argument, ast.Starred)


def _of_attention(sources: Sources, modes: TrainingModes, op: int) -> Finding:
    index, last = sources.index, modes.in_force(op)
    return sources.finding(
        f"Line {index.op_line(op)}: {index.func(op)} drops attention weights after eval() as well",
        why="it drops what dropout_p says, and does not know the mode of the module that it is in",
        op=op,
        tensors=index.tensors_made(op)[:1],
        causes=sources.cause("used", op),
        evidence=[Evidence("events", last.event.row)] if last is not None else [],
        advice="Give dropout_p only while self.training is True, else 0.0.",
    )


def _finding(sources: Sources, modes: TrainingModes, op: int, other: int = NONE) -> Finding:
    """The finding for a call; ``other`` is a dropout of the same function that the same evaluation turned off."""
    index, last = sources.index, modes.in_force(op)
    always = "training=True keeps it on, while eval() turned another dropout of this function off"
    kept = "Pass training=self.training, or keep an nn.Dropout that __init__ makes"
    return sources.finding(
        f"Line {index.op_line(op)}: {index.func(op)} drops values after eval() as well",
        why=always if other != NONE else "the call does not depend on the mode of the module that it is in",
        op=op,
        tensors=index.tensors_made(op)[:1],
        causes=sources.cause("used", op),
        evidence=[Evidence("events", last.event.row)] if last is not None else [],
        advice=f"{kept}." if other != NONE else f"{kept} (training=True says that it is meant).",
    )


DIAGNOSIS = Diagnosis(
    code="dropout-in-evaluation",
    title="dropout is active in evaluation",
    severity="warning",
    explanation=Explanation(
        meaning="""F.dropout without training=, scaled_dot_product_attention with a dropout_p that is not 0, or an
            nn.Dropout that forward makes for the call, dropped values in training and, after eval(), in a pass without
            gradients too. With training=True it is told only where
            evaluation turned another dropout of the same function off, and nothing says that it is meant.""",
        reason="""F.dropout is a function: its training argument is True unless it is passed, and
            scaled_dot_product_attention has none. eval() reaches modules that are registered, not functions, and not
            modules that are made anew in each call.""",
        remedy="""F.dropout(x, p, training=self.training), or self.dropout = nn.Dropout(p) in __init__; for attention,
            dropout_p=p if self.training else 0.0.""",
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

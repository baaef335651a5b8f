"""Weights in half precision that no step can change: it is less than half of the distance to the next number."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.leaf_gradients.vanished_eps import dtype_of, made_so
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.report_model import Evidence
from gradscope.recording.rows import EventKind

_FULL = 2
"""Steps that were looked at under half of a scheduler's full rate and more, from which on its warm-up is no matter."""
STEPS = 3
"""Steps that left a weight as it was from which on it is reported."""

_HALF_A_STEP = {"bfloat16": 2.0**-9, "float16": 2.0**-12}
"""For each precision, half of the distance from 1 to the next number below: what is less is rounded away."""

_ADAMS = ("Adam", "AdamW")
_OF_THE_RATE = frozenset((*_ADAMS, "NAdam", "RAdam", "Adamax", "RMSprop"))
"""Optimizers whose steps are about as large as the rate for every value with a gradient, however small that is."""
_LARGEST = 3.2
"""Of these a step moves a weight by at most so many times the rate: (1 - 0.9) / sqrt(1 - 0.999), by their paper."""

_DECAYS = ("StepLR", "MultiStepLR", "ExponentialLR", "CosineAnnealingLR", "ReduceLROnPlateau", "PolynomialLR")
"""Schedulers that do not raise a rate above the first one."""

_NORMS = re.compile(r"nn\.(_BatchNorm|BatchNorm\dd|LayerNorm|GroupNorm|RMSNorm)\.__init__")
"""What makes a weight of ones."""
_SETS_RATE = re.compile(r"""\[["']lr["']\]\s*[-+*/]?=(?!=)""")


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each optimizer, of the norms' weights that it holds: they are known to begin at 1."""
    index, lives = sources.index, sources.lives
    if not any(dtype_of(index, layout) in _HALF_A_STEP for layout in range(len(index.recording.layouts))):
        return
    ones, lost, stuck = _weights_of_ones(sources), _lost_steps(sources), _stuck(sources)
    for optimizer in seen_optimizers(index, sources.events) if ones or lost or stuck else ():
        is_first, subject = _has_its_first_rate(sources, optimizer), optimizer.made.subject
        if (event := lost.get(subject)) is not None and (is_first or _was_at_its_rate(event)):
            if not event.detail.get("moved"):
                yield _none_moved(sources, optimizer, event)
                continue
            if optimizer.name in _OF_THE_RATE:
                yield _few_moved(sources, optimizer, event)
                continue
        if (event := stuck.get(subject)) is not None and (is_first or _was_at_its_rate(event)):
            yield _some_stuck(sources, optimizer, event)
            continue
        if optimizer.name not in _ADAMS or not is_first:
            continue
        kept: dict[tuple[str, int], list[int]] = {}
        for tensor in sorted(optimizer.tensors & ones & lives.steps.keys()):
            steps, rate = lives.steps[tensor], optimizer.setting(tensor, "lr")
            dtype = dtype_of(index, index.layout_at(tensor, steps[0]))
            is_lost = 0 < rate * (_LARGEST + optimizer.setting(tensor, "weight_decay")) < _HALF_A_STEP.get(dtype, 0.0)
            if len(steps) >= STEPS and is_lost:
                changed = made_so(index, tensor, dtype, steps[0])
                kept.setdefault((dtype, changed if changed >= 0 else index.made_by(tensor)), []).append(tensor)
        for (dtype, made), tensors in kept.items():
            yield _finding(sources, optimizer, dtype, made, tensors)


def _was_at_its_rate(event: Happened) -> bool:
    """Whether steps that were looked at came when a scheduler had raised the rate."""
    return int(event.detail.get("full", 0)) >= _FULL


def _lost_steps(sources: Sources) -> dict[int, Happened]:
    """By optimizer, that no step of it that was looked at changed much of its parameters in half precision."""
    last = {event.subject: event for event in sources.events.of(EventKind.ROUNDED_AWAY) if "lost" in event.detail}
    return {subject: event for subject, event in last.items() if event.detail["lost"] and event.tensors}


def _stuck(sources: Sources) -> dict[int, Happened]:
    """By optimizer, that some of its parameters were as before the first step at the last one that was looked at."""
    last = {event.subject: event for event in sources.events.of(EventKind.ROUNDED_AWAY) if "stuck" in event.detail}
    return {subject: event for subject, event in last.items() if event.tensors}


def _none_moved(sources: Sources, optimizer: Optimizer, event: Happened) -> Finding:
    as_far = "" if event.detail.get("whole") else ", as far as they were looked at"
    return _looked_at(
        sources,
        optimizer,
        event,
        "changes nothing",
        f"each of {event.detail.get('looked', STEPS)} steps left all of their values as they were{as_far}, though "
        "none has a gradient of zero",
    )


def _some_stuck(sources: Sources, optimizer: Optimizer, event: Happened) -> Finding:
    as_far = "" if event.detail.get("whole") else ", as far as they were looked at"
    its = "its" if len(event.tensors) == 1 else "their"
    return _looked_at(
        sources,
        optimizer,
        event,
        f"does not change {'it' if len(event.tensors) == 1 else 'them'} at all",
        f"after each of {event.detail['stuck']} steps that were looked at {its} values were those of before the "
        f"first one{as_far}, though {its} gradient was not zero",
    )


def _few_moved(sources: Sources, optimizer: Optimizer, event: Happened) -> Finding:
    moved, of = int(event.detail["moved"]), int(event.detail["of"])
    as_far = "" if event.detail.get("whole") else ", as far as they were looked at"
    return _looked_at(
        sources,
        optimizer,
        event,
        "leaves most values as they are",
        f"of {of:,} with a gradient other than zero a step changed {moved:,}, and none of "
        f"{event.detail.get('looked', STEPS)} that were looked at a larger share{as_far}",
    )


def _looked_at(sources: Sources, optimizer: Optimizer, event: Happened, does: str, seen: str) -> Finding:
    index, tensors = sources.index, list(event.tensors)
    dtype = dtype_of(index, index.layout_at(tensors[0], event.op))
    changed = made_so(index, tensors[0], dtype, event.op)
    made = changed if changed >= 0 else index.made_by(tensors[0])
    names = sources.listed([sources.names.of(tensor) for tensor in tensors])
    return sources.finding(
        f"Line {index.op_line(made)}: {names} {'is' if len(tensors) == 1 else 'are'} {dtype}, in which the "
        f"{optimizer.name} of line {optimizer.line} with lr={_rate(sources, optimizer, event)} {does}",
        why=f"{seen}: an update that is less than half of the distance to the next number is rounded away, in each "
        "step anew",
        op=min(event.op, index.op_count - 1),
        tensors=tensors,
        causes=[*sources.cause("set", made), *sources.cause_of_event("made", optimizer.made)],
        evidence=[Evidence("events", event.row), Evidence("events", optimizer.made.row)],
        advice="Keep the weights in float32 and compute under torch.autocast, or take a larger rate.",
    )


def _rate(sources: Sources, optimizer: Optimizer, event: Happened) -> str:
    """The rate that the optimizer was made with; where others follow, the highest that was seen."""
    if _has_its_first_rate(sources, optimizer):
        return f"{optimizer.setting(event.tensors[0], 'lr'):g}"
    return f"{float(event.detail['rate']):g} at most"


def _finding(sources: Sources, optimizer: Optimizer, dtype: str, made: int, tensors: list[int]) -> Finding:
    index, steps = sources.index, sources.lives.steps[tensors[0]]
    times = f"{index.times(steps):,} steps"
    names, rate = sources.listed([sources.names.of(tensor) for tensor in tensors]), optimizer.setting(tensors[0], "lr")
    least = rate * _LARGEST / _HALF_A_STEP[dtype]
    return sources.finding(
        f"Line {index.op_line(made)}: {names} {'is' if len(tensors) == 1 else 'are'} {dtype}, in which the "
        f"{optimizer.name} of line {optimizer.line} with lr={rate:g} cannot change a weight of 1 ({times})",
        why=f"a step of it is {rate * _LARGEST:.2g} at most, and what differs from 1 by less than "
        f"{_HALF_A_STEP[dtype]:.2g} is rounded to 1; the same goes for all weights from about {2 * least:.2g} on",
        op=steps[-1],
        tensors=tensors,
        causes=[*sources.cause("set", made), *sources.cause_of_event("made", optimizer.made)],
        evidence=[Evidence("ops", made), Evidence("events", optimizer.made.row)],
        advice="Keep the weights in float32 and compute under torch.autocast.",
    )


def _weights_of_ones(sources: Sources) -> frozenset[int]:
    """The weights of norms that nothing wrote between the norm's making and the first step."""
    index, steps = sources.index, sources.lives.steps
    made = {tensor: index.made_by(tensor) for tensor in steps}
    ones = {
        tensor
        for tensor, op in made.items()
        if 0 <= op < index.op_count
        and _NORMS.fullmatch(index.func(op))
        and min(other for other, at in made.items() if at == op) == tensor
    }
    written = {
        tensor for op, tensor, _, _ in all_writes(index) if tensor in ones and made[tensor] < op < steps[tensor][0]
    }
    return frozenset(ones - written)


def _has_its_first_rate(sources: Sources, optimizer: Optimizer) -> bool:
    """Whether nothing is known to raise an optimizer's rate, and its betas are those of its class."""
    recording = sources.index.recording
    schedulers = {
        event.detail.get("scheduler")
        for event in sources.events.of(EventKind.LEARNING_RATE)
        if event.subject == optimizer.made.subject and event.detail.get("call") == "made"
    }
    if not schedulers <= {*_DECAYS} or any(file.is_user and _SETS_RATE.search(file.text) for file in recording.files):
        return False
    span = recording.spans[optimizer.made.span]
    return "betas" not in recording.source(span.file, span.stmt_line, span.stmt_end_line)


DIAGNOSIS = Diagnosis(
    code="update-rounded-away",
    title="weights in half precision that the optimizer's steps cannot change",
    severity="warning",
    explanation=Explanation(
        meaning="""The weights of a norm, which begin at 1, were bfloat16 or float16, and Adam or AdamW stepped them
            with a rate so small that 1 less a step is rounded to 1 again. Or steps of any of torch's optimizers were
            looked at, and none changed a single value of what it holds in half precision, or of one of the parameters;
            or, of those of the Adams and RMSprop, more than a quarter of the values with a gradient.""",
        reason="""Numbers near 1 are 0.0039 apart in bfloat16, and those near 0.1 are 0.0005 apart. A step of Adam is
            about as large as the rate. What is less than half the distance to the next number is lost, in each step
            anew: it does not add up.""",
        remedy="""Keep the parameters in float32 and compute in half precision under torch.autocast, or keep a copy in
            float32 that the optimizer steps.""",
    ),
    example=Example(
        shows="""\
import torch

net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
net.to(torch.bfloat16)
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
for step in range(4):
    optimizer.zero_grad()
    net(torch.randn(2, 3).to(net[0].weight.dtype)).pow(2).mean().backward()
    optimizer.step()
""",
        instead_of="net.to(torch.bfloat16)",
        silent="net.to(torch.float32)",
    ),
    find=_find,
)

"""Activation checkpointing without the random state: backward runs the function with other random numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.modules.checkpoints import Rerun, reruns
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.frames.called_by_torch.draws_from_generators import draws_from_generators
from gradscope.frames.called_by_torch.draws_outside_torch import draws_outside_torch
from gradscope.frames.called_by_torch.reruns_in_backward import puts_random_state_back, reruns_in_backward
from gradscope.recording.rows import EventKind

_DROPS = re.compile(r"(F|torch)\.(feature_)?(alpha_)?dropout[123]?d?")
_DRAWS = re.compile(r"torch\.(rand|randn|rand_like|randn_like|bernoulli|normal)|Tensor\.(bernoulli|normal|uniform)_?")

_RANDOM = re.compile(
    r"torch\.(rand|randn|randint|randperm|rand_like|randn_like|bernoulli|normal|multinomial|poisson)"
    r"|Tensor\.(bernoulli|normal|uniform|exponential|random|cauchy|geometric|log_normal)_?"
)


_PASSES = ("torch.autograd.grad", "torch.autograd.backward", "Tensor.backward")


def _find(sources: Sources) -> Iterator[Finding]:
    yield from _of_torch(sources)
    yield from _of_others(sources)
    yield from _of_generators(sources)
    yield from _in_functions(sources)


def _in_functions(sources: Sources) -> Iterator[Finding]:
    """One finding for each Function of the program's whose backward runs again, with draws, what its forward ran."""
    index, drawn, differentiated = sources.index, dict[str, list[Happened]](), set[str]()
    for event in sources.events.of(EventKind.RECOMPUTED):
        if event.detail.get("function") in _PASSES:
            differentiated.add(str(event.detail.get("within")))
        if event.detail.get("draws") is True and event.span >= 0:
            drawn.setdefault(str(event.detail.get("within")), []).append(event)
    spans = index.recording.ops.column("span")
    files = [(number, file.text) for number, file in enumerate(index.recording.files) if file.is_user]
    for within, events in drawn.items():
        places = {(event.span, str(event.detail.get("function"))): event for event in events}
        name = within.partition(".")[0]
        lines = {index.recording.spans[event.span].line for event in events}
        if any(puts_random_state_back(text, name, line) for _, text in files for line in lines):
            continue
        causes = [
            sources.cause_of_line("used", file, *at) for file, text in files for at in reruns_in_backward(text, name)
        ]
        # (A layer of a library draws at the line that calls it: in forward at another one than in backward.)
        called = {
            func
            for span, func in places
            if any(one.line <= index.recording.spans[span].line <= one.end_line for one in causes)
        }
        again = [
            op
            for op in index.calls_of(lambda name: any(name == func for _, func in places))  # noqa: B023 (called here)
            if sources.flow.is_inside_function(op)
            and (
                (spans[op], index.func(op)) in places
                or (index.func(op) in called and _is_in_forward(sources, name, op))
            )
        ]
        # (One that only draws again, to round a gradient at random, runs nothing to differentiate it.)
        if not again or not causes or within not in differentiated:
            continue
        at, drawing = sorted({cause.line for cause in causes}), index.func(again[0])
        yield sources.finding(
            f"Line{'s' * (len(at) > 1)} {numbers(at)}: backward of {name} runs again what its forward ran, and "
            f"{index.call_name(again[0])} draws other numbers then: nothing puts back torch's random state, and the "
            "gradients are not those of the values that were computed",
            op=again[-1],
            tensors=index.tensors_made(again[-1]),
            causes=causes,
            evidence=[Evidence("events", next(one.row for (_, func), one in places.items() if func == drawing))],
            advice="Keep torch.get_rng_state() in forward, and set it for the second run, in torch.random.fork_rng().",
        )


def _is_in_forward(sources: Sources, name: str, op: int) -> bool:
    """Whether a call stands in the forward of a Function of the program's, by its class."""
    index, written = sources.index, sources.functions.of_name.get(f"{name}Backward")
    if written is None or written.forward is None:
        return False
    lines = range(written.forward.lineno, (written.forward.end_lineno or written.forward.lineno) + 1)
    return index.op_line(op) in lines and index.statements[index.op_statement[op]].file == written.file


def _of_others(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that draws with NumPy or Python in a function that backward ran again."""
    index = sources.index
    again = [
        event for event in sources.events.of(EventKind.RECOMPUTED) if event.span >= 0 and not event.detail.get("within")
    ]
    lines: dict[int, dict[int, int]] = {}
    for event in again:
        span = index.recording.spans[event.span]
        lines.setdefault(span.file, {})[span.stmt_line] = event.row
    statements = [index.statements[one] for one in set(index.op_statement)] if lines else []
    for file, rows in lines.items():
        ran = {one.line for one in statements if one.file == file}
        for draw in draws_outside_torch(index.recording.files[file].text, rows.keys(), ran):
            cause = sources.cause_of_line("used", file, draw.line, draw.end_line, draw.function)
            yield sources.finding(
                f"Line {cause.line}: {draw.call} draws other numbers when backward runs the checkpointed function "
                "again: checkpoint puts back torch's random state only, and the gradients are not those of the values "
                "that were computed",
                op=index.op_count - 1,
                tensors=[],
                causes=[cause],
                evidence=[Evidence("events", row) for row in sorted(rows.values())[:1]],
                advice="Draw with torch (torch.rand), or outside of what is checkpointed.",
            )


def _of_generators(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that draws from a generator of the program's in a function that ran again."""
    index = sources.index
    spans, again = index.recording.spans, list[Happened]()
    for event in sources.events.of(EventKind.RECOMPUTED):
        if event.span >= 0 and not event.detail.get("within"):
            again.append(event)
    drawn = {event.span: event for event in again if _RANDOM.fullmatch(str(event.detail.get("function")))}
    in_gradient = _draws_in_gradient(sources, drawn.keys()) if drawn else set[int]()
    for file in {spans[span].file for span in in_gradient}:
        draws = {
            (spans[span].stmt_line, str(drawn[span].detail["function"]).rpartition(".")[2])
            for span in in_gradient
            if spans[span].file == file
        }
        ran = {spans[event.span].line for event in again if spans[event.span].file == file}
        for draw in draws_from_generators(index.recording.files[file].text, draws, ran):
            cause = sources.cause_of_line("used", file, draw.line, draw.end_line, draw.function)
            yield sources.finding(
                f"Line {cause.line}: {draw.call} draws other numbers from {draw.generator} when backward runs the "
                "checkpointed function again: checkpoint puts back the state of torch's own generators only, and the "
                "gradients are not those of the values that were computed",
                op=index.op_count - 1,
                tensors=[],
                causes=[cause],
                evidence=[Evidence("events", event.row) for event in drawn.values()][:1],
                advice="Draw without generator=, or outside of what is checkpointed.",
            )


def _draws_in_gradient(sources: Sources, spans: Collection[int]) -> set[int]:
    """Those of some places at which a checkpointed function drew what a node took that a pass came through."""
    index, found = sources.index, set[int]()
    column = index.recording.ops.column("span")
    for rerun in reruns(index, sources.events, sources.passes):
        for op in (one for one in rerun.ops if column[one] in spans and column[one] not in found):
            todo, seen = [*index.tensors_made(op), *list(index.uses.of(op))[:1]], set[int]()
            while todo:
                tensor = todo.pop()
                users = [user for user in index.users.of(tensor) if op < user <= rerun.ops[-1]]
                if any(user in rerun.nodes for user in users):
                    found.add(column[op])
                    break
                seen.add(tensor)
                todo += [made for user in users for made in index.tensors_made(user) if made not in seen]
    return found


def _of_torch(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that checkpoints, about the first random op of its last run."""
    index, found = sources.index, {}
    for rerun in reruns(index, sources.events, sources.passes):
        if rerun.event.detail.get("preserve_rng_state") is False and (drawn := _drawn(sources, rerun)):
            found[rerun.event.span] = rerun, drawn
    for rerun, drawn in found.values():
        causes = sources.cause_of_event("used", rerun.event)
        where = f"Line {causes[0].line}" if causes else "A call"
        first = drawn[0]
        yield sources.finding(
            f"{where}: checkpoint with preserve_rng_state=False ran {index.call_name(first)}, and backward runs the "
            "function again with other random numbers: its gradients are not those of the values that were computed",
            op=first,
            tensors=index.tensors_made(first),
            causes=causes,
            evidence=[Evidence("events", rerun.event.row), Evidence("ops", max(rerun.nodes.values()))],
            advice="Leave out preserve_rng_state=False.",
        )


def _drawn(sources: Sources, rerun: Rerun) -> list[int]:
    """Random ops of a run on which a gradient depends."""
    index, found = sources.index, []
    for op in rerun.ops:
        func, made = index.call_name(op), index.tensors_made(op)
        if not made:  # a dropout that drops nothing gives back what it was given
            continue
        users = index.users.of(made[0]) if _DRAWS.fullmatch(func) else ()
        if (_DROPS.fullmatch(func) and op in rerun.nodes) or any(user in rerun.nodes for user in users):
            found.append(op)
    return found


DIAGNOSIS = Diagnosis(
    code="checkpoint-draws-anew",
    title="backward runs a checkpointed function with other random numbers",
    severity="problem",
    explanation=Explanation(
        meaning="""A function under torch.utils.checkpoint with preserve_rng_state=False drew random numbers (dropout),
            and a backward pass came through it. Or it drew numbers of NumPy's or Python's, or from a torch.Generator of
            the program's, whose state checkpoint does not put back in any case. Or the backward of a Function of the
            program's runs again, with dropout, what its forward ran.""",
        reason="""Backward runs the function a second time to have its activations. Without the random state of the
            forward pass it draws other numbers, another dropout mask, and the gradients are those of a function that
            was not the one that gave the loss; nothing fails.""",
        remedy="""Leave out preserve_rng_state=False: the state is then kept and put back, at a small cost. It may
            stay where the function draws nothing. What NumPy, Python or a generator of its own draws, draw
            with torch's default generator or outside.""",
    ),
    example=Example(
        shows="""\
import torch
from torch.utils.checkpoint import checkpoint

x = torch.ones(8, requires_grad=True)
y = checkpoint(lambda x: torch.dropout(x.exp(), 0.5, True).exp(), x, use_reentrant=False, preserve_rng_state=False)
y.sum().backward()
""",
        instead_of="y = checkpoint(lambda x: torch.dropout(x.exp(), 0.5, True).exp(), x, use_reentrant=False, "
        "preserve_rng_state=False)",
        silent="y = checkpoint(lambda x: torch.dropout(x.exp(), 0.5, True).exp(), x, use_reentrant=False)",
    ),
    find=_find,
)

"""A custom Function whose ctx keeps its own output as an attribute: the two keep each other alive."""

from __future__ import annotations

import ast
from bisect import bisect_right
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.function_sources import WrittenBackward, attribute_of
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.sizes import size
from gradscope.frames.syntax_trees import own_parts
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

AT_LEAST = 3
"""Outputs that outlived their backward pass."""


def _find(sources: Sources) -> Iterator[Finding]:
    """The source shows that ctx keeps the output; that outputs were still there two passes later shows what it does."""
    index = sources.index
    recording, tensors = index.recording, index.recording.tensors
    passes = index.of_kind(OpKind.BACKWARD)
    for name, written in sources.functions.of_name.items():
        kept = _kept_outputs(written)
        stayed = []
        for node, output in _outputs(sources.index, name, written) if kept else ():
            used_up, died = sources.passes.used_up_at[node], tensors.column("died")[output]
            end = index.op_count if died == NONE else died
            if used_up >= 0 and bisect_right(passes, end) - bisect_right(passes, used_up) >= 2:
                stayed.append(output)
        if len(stayed) >= AT_LEAST:
            attr, statement = kept[0]
            blocks = {tensors.column("storage")[output]: index.times_made([output]) for output in stayed}
            nbytes = recording.storages.column("nbytes")
            held = size(sum(nbytes[block] * times for block, times in blocks.items() if block >= 0))
            made_at = tensors.column("op")[stayed[-1]]
            line = written.lines_of(statement).line
            yield sources.finding(
                f"Line {line}: ctx.{attr} keeps the output of {written.name}, whose graph keeps ctx",
                why=f"{index.times_made(stayed):,} outputs ({held}) stayed after their backward pass, until Python "
                "looks for cycles",
                op=min(made_at, index.op_count - 1),
                tensors=[stayed[-1]],
                causes=sources.causes_at("made", [written.lines_of(statement)]),
                evidence=[Evidence("tensors", output) for output in stayed],
                advice="ctx.save_for_backward() keeps it without a cycle.",
            )


def _outputs(index: Index, name: str, written: WrittenBackward) -> Iterator[tuple[int, int]]:
    """Nodes of a Function, each with the tensor that its ``forward`` made and the next op took for its output."""
    recording = index.recording
    of_function = {node for node, text in enumerate(recording.nodes.column("name")) if recording.text(text) == name}
    made_by, made_at = recording.nodes.column("op"), recording.tensors.column("op")
    forward = written.forward
    lines = range(forward.lineno, (forward.end_lineno or forward.lineno) + 1) if forward is not None else range(0)
    edges = zip(recording.edges.column("node"), recording.edges.column("next"), strict=True)
    for after, node in edges:
        if node in of_function:
            taken = [
                use
                for use in index.uses.of(made_by[after])
                if made_at[use] < index.op_count
                and index.op_line(made_at[use]) in lines
                and index.statements[index.op_statement[made_at[use]]].file == written.file
            ]
            if len(taken) == 1:
                yield node, taken[0]


def _kept_outputs(written: WrittenBackward) -> list[tuple[str, ast.stmt]]:
    """Attributes of ctx to which ``forward`` gives what it returns, as its source says, with the statements."""
    forward = written.forward
    if forward is None or len(forward.args.args) < 2:
        return []
    context = forward.args.args[0].arg
    parts = list(own_parts(forward))
    returned = {
        value.id
        for part in parts
        if isinstance(part, ast.Return)
        for value in (part.value.elts if isinstance(part.value, ast.Tuple) else [part.value])
        if isinstance(value, ast.Name)
    }
    found = []
    for part in parts:
        for target in part.targets if isinstance(part, ast.Assign) else ():
            pairs = [(target, part.value)] if isinstance(part, ast.Assign) else []
            if isinstance(target, ast.Tuple) and isinstance(part, ast.Assign) and isinstance(part.value, ast.Tuple):
                pairs = list(zip(target.elts, part.value.elts, strict=False))
            for one, value in pairs:
                attr = attribute_of(one, context)
                if attr and isinstance(part, ast.stmt) and isinstance(value, ast.Name) and value.id in returned:
                    found.append((attr, part))
    return found


DIAGNOSIS = Diagnosis(
    code="output-kept-by-ctx",
    title="a custom Function that keeps its output in a cycle",
    severity="warning",
    explanation=Explanation(
        meaning="""The forward of a custom autograd.Function puts its own output on ctx as an attribute. Outputs of
            several iterations were still there two backward passes after their own.""",
        reason="""The output's grad_fn keeps ctx, and ctx keeps the output: neither goes when the last name is gone,
            only when Python's garbage collector happens to look for cycles. Memory of many iterations piles up.""",
        remedy="""Keep inputs and outputs with ctx.save_for_backward(), which knows outputs and makes no cycle. Plain
            attributes of ctx are for what is neither.""",
    ),
    example=Example(
        shows="""\
import torch


class Exp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.y = y
        return y

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.y


w = torch.ones(100, requires_grad=True)
for step in range(8):
    Exp.apply(w * step).sum().backward()
""",
        instead_of="ctx.y = y",
        silent="ctx.y = y.detach()",
    ),
    find=_find,
)

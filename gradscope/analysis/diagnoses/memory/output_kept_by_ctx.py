"""A custom Function whose ctx keeps its own output as an attribute: the two keep each other alive."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.function_sources import WrittenBackward, attribute_of
from gradscope.analysis.facts.memory.outputs_on_ctx import OutputOnCtx, outputs_on_ctx, stayed
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.sizes import size
from gradscope.frames.syntax_trees import own_parts
from gradscope.recording import NONE

AT_LEAST = 3
"""Outputs that stayed."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each attribute: outputs that were still there two passes later show what it does."""
    index = sources.index
    measured = outputs_on_ctx(index)
    names = index.recording.nodes.column("name")
    for name, written in sources.functions.of_name.items():
        own = [one for one in measured if index.recording.text(names[one.node]) == name]
        written_down = _kept_outputs(written) if not own else []  # (what hooks were in force for was not read)
        if written_down:
            attr, statement = written_down[0]
            pairs = [OutputOnCtx(node, output, attr) for node, output in _outputs(index, name, written)]
            pairs = [one for one in pairs if sources.passes.used_up_at[one.node] >= 0]
            yield from _of_one(sources, written, statement, stayed(index, sources.passes, pairs))
        for attr in dict.fromkeys(one.attr for one in own):
            pairs = [one for one in own if one.attr == attr]
            yield from _of_one(sources, written, _stored_at(written, attr), stayed(index, sources.passes, pairs))


def _of_one(
    sources: Sources, written: WrittenBackward, statement: ast.stmt | None, kept: list[OutputOnCtx]
) -> Iterator[Finding]:
    """What is said of the outputs that stayed on one attribute, with the statement that put them there."""
    index = sources.index
    if len(kept) < AT_LEAST or statement is None:
        return
    outputs, recording = [one.output for one in kept], index.recording
    blocks = {recording.tensors.column("storage")[output]: index.times_made([output]) for output in outputs}
    nbytes = recording.storages.column("nbytes")
    held = size(sum(nbytes[block] * times for block, times in blocks.items() if block >= 0))
    never = [one.output for one in kept if sources.passes.first_walked_at[one.node] == NONE]
    after = "their backward pass" if not never else "the calls that used them"
    if len(never) == len(kept):
        after = "the pass of their round, which does not come to them"
    yield sources.finding(
        f"Line {written.lines_of(statement).line}: ctx.{kept[0].attr} keeps the output of {written.name}, whose graph "
        "keeps ctx",
        why=f"{index.times_made(outputs):,} outputs ({held}) stayed after {after}, until Python looks for cycles",
        op=min(recording.tensors.column("op")[outputs[-1]], index.op_count - 1),
        tensors=[outputs[-1]],
        causes=sources.causes_at("made", [written.lines_of(statement)]),
        evidence=[Evidence("tensors", output) for output in outputs],
        advice="ctx.save_for_backward() keeps it without a cycle.",
    )


def _stored_at(written: WrittenBackward, attr: str) -> ast.stmt | None:
    """The one statement of its methods that puts something on the attribute of its ctx."""
    found = []
    for method in (written.methods.get("forward"), written.methods.get("setup_context")):
        if method is None or not method.args.args:
            continue
        context = method.args.args[0].arg
        for part in own_parts(method):
            targets = part.targets if isinstance(part, ast.Assign) else []
            each = [one for target in targets for one in (target.elts if isinstance(target, ast.Tuple) else [target])]
            if isinstance(part, ast.Assign) and any(attribute_of(one, context) == attr for one in each):
                found.append(part)
    return found[0] if len(found) == 1 else None


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
            several iterations were still there two backward passes after their own, or after the last call that used
            them, where no backward pass came to them.""",
        reason="""The output's grad_fn keeps ctx, and ctx keeps the output: neither goes when the last name is gone
            (a del ctx.y in backward helps those alone to which a pass comes),
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

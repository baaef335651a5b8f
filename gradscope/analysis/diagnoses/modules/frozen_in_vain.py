"""requires_grad switched off on another tensor than the parameter.

On what ``.data`` or ``state_dict()`` gave, or on what a parameter was made of afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.function_sources import Lines
from gradscope.analysis.facts.passes.gradient_lives import first_after
from gradscope.analysis.facts.reaching.wrapped_parameters import WrappedParameters
from gradscope.analysis.report_model import Evidence
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind


def _find(sources: Sources) -> Iterator[Finding]:
    """By the line that sets it: the parameters that share their memory with what it was set on."""
    index, lives = sources.index, sources.lives
    kinds, storages = index.recording.ops.column("kind"), index.recording.tensors.column("storage")
    flags = index.recording.tensors.column("flags")
    trained = {storages[leaf]: leaf for leaf in lives.passes if flags[leaf] & PARAMETER and storages[leaf] >= 0}
    seen, wrapped = index.recording.tensors.column("op"), WrappedParameters(index)
    found: dict[int, dict[int, int]] = {}
    made_of: dict[tuple[int, Lines], dict[int, int]] = {}
    for op in (one for one, kind in enumerate(kinds) if kind == OpKind.SET):
        if "requires_grad" not in index.func(op):
            continue
        tensor = index.uses.of(op)[0]
        leaf = trained.get(storages[tensor], tensor)
        if leaf == tensor or index.requires_grad(tensor, op) or index.requires_grad(tensor, op + 1):
            continue
        if seen[leaf] >= op and leaf > tensor and all(user <= op for user in index.users.of(tensor)):
            if (wrap := _wrapped_at(sources, wrapped, leaf)) is not None:
                made_of.setdefault((index.op_statement[op], wrap), {})[leaf] = op
        elif (
            all(user == op for user in index.users.of(tensor))
            and index.requires_grad(leaf, op)
            and first_after(lives.passes[leaf], op) > op
        ):
            found.setdefault(index.op_statement[op], {})[leaf] = op
    for leaves in found.values():
        yield _finding(sources, leaves)
    for (_, wrap), leaves in made_of.items():
        yield _of_wrapped(sources, wrap, leaves)


def _wrapped_at(sources: Sources, wrapped: WrappedParameters, leaf: int) -> Lines | None:
    """The statement that made a parameter, where nothing says that it shall require grad; else None."""
    if not wrapped.is_wrapped(leaf) or leaf in sources.index.changed_ops:
        return None
    wrap = wrapped.at(leaf)
    if wrap is None or wrap.by != "Parameter":
        return None
    made = wrap.at
    source = sources.index.recording.source(made.file, made.line, made.end_line)
    return None if "requires_grad" in source or "True" in source else made


def _of_wrapped(sources: Sources, wrap: Lines, leaves: dict[int, int]) -> Finding:
    index, op = sources.index, max(leaves.values())
    names = sources.listed([sources.names.at(leaf, sources.lives.passes[leaf][-1]) for leaf in leaves])
    (cause,) = sources.causes_at("made", [wrap])
    return sources.finding(
        f"Line {cause.line}: {names} require{'s' * (len(leaves) == 1)} grad, and gradients reach "
        f"{'it' if len(leaves) == 1 else 'them'}",
        why=f"requires_grad was switched off on the tensor (line {index.op_line(op)}), and the parameter that is made "
        "of it has a requires_grad of its own, which is True",
        op=op,
        tensors=list(leaves),
        causes=[cause, *sources.cause("set", op)],
        evidence=[Evidence("ops", sources.lives.passes[leaf][-1]) for leaf in leaves],
        advice="Write nn.Parameter(…, requires_grad=False), or register_buffer().",
    )


def _finding(sources: Sources, leaves: dict[int, int]) -> Finding:
    index, op = sources.index, max(leaves.values())
    tensor = index.uses.of(op)[0]
    made = index.made_by(tensor)
    given = f", which {index.call_name(made)} gave" if 0 <= made < index.op_count else ""
    names = sources.listed([sources.names.at(leaf, sources.lives.passes[leaf][-1]) for leaf in leaves])
    return sources.finding(
        f"Line {index.op_line(op)}: requires_grad is switched off on another tensor{given}, and {names} still "
        f"require{'s' * (len(leaves) == 1)} grad and get{'s' * (len(leaves) == 1)} gradients",
        why="the two share their memory, not requires_grad",
        op=op,
        tensors=list(leaves),
        causes=sources.cause("set", op),
        evidence=[Evidence("ops", sources.lives.passes[leaf][-1]) for leaf in leaves],
        advice="Set it on the parameters themselves: module.requires_grad_(False).",
    )


DIAGNOSIS = Diagnosis(
    code="frozen-in-vain",
    title="requires_grad switched off on another tensor than the parameter",
    severity="warning",
    explanation=Explanation(
        meaning="""requires_grad was set to False on a tensor that did not require grad anyway, and that is used for
            nothing else. It is on the memory of a parameter, which got gradients afterwards; or the parameter was made
            of it then.""",
        reason="""p.data, p.detach() and the values of state_dict() are tensors of their own. They share the
            parameter's memory; requires_grad is a property of each tensor. nn.Parameter(t) makes a new one as well,
            which requires grad whatever t does.""",
        remedy="""p.requires_grad = False for p in module.parameters(), or module.requires_grad_(False);
            nn.Parameter(t, requires_grad=False).""",
    ),
    example=Example(
        shows="""\
import torch

body, head = torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)
for p in body.parameters():
    p.data.requires_grad = False
head(body(torch.ones(2, 3))).sum().backward()
""",
        instead_of="p.data.requires_grad = False",
        silent="p.requires_grad = False",
    ),
    find=_find,
)

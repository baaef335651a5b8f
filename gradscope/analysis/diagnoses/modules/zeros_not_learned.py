"""A plain tensor of zeros, an attribute of a module, that a product takes as a factor: it was to be a parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.report_model import Evidence
from gradscope.frames.modules.zero_attributes import ZeroAttribute, multiplies, zero_attribute
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER

_ZEROS = ("torch.zeros", "torch.zeros_like", "Tensor.new_zeros")
_KEEPS = ("Tensor.to", "Tensor.cuda", "Tensor.cpu", "Tensor.clone", "Tensor.float", "Tensor.detach")
_PRODUCTS = ("mul", "__mul__", "__rmul__")
PASSES = 2
"""Passes that came through a product, with a step among them, from which on it is reported."""


class _ZeroProduct(NamedTuple):
    """The products of one statement that were zero."""

    attribute: ZeroAttribute
    file: int
    zeros: int
    ops: list[int]


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each attribute."""
    found: dict[tuple[int, int], _ZeroProduct] = {}
    for zeros, made in _zeros(sources):
        where = sources.index.statements[sources.index.op_statement[made]]
        attribute = _attribute(sources, where.file, sources.index.op_line(made))
        products = _products(sources, zeros, attribute) if attribute is not None else []
        if attribute is not None and products:
            known = found.setdefault((where.file, attribute.line), _ZeroProduct(attribute, where.file, zeros, []))
            known.ops.extend(products)
    steps = sorted({step for ops in sources.lives.steps.values() for step in ops})
    for product in found.values():
        walked = sorted({_pass_through(sources, op) for op in product.ops})
        if len(walked) >= PASSES and any(walked[0] < step < walked[-1] for step in steps):
            yield _finding(sources, product, walked)


def _zeros(sources: Sources) -> Iterator[tuple[int, int]]:
    """Tensors of zeros that nothing wrote and that are no parameters, with the call that made the zeros."""
    index, tensors = sources.index, sources.index.recording.tensors
    storages, flags = tensors.column("storage"), tensors.column("flags")
    made_at = tensors.column("op")
    written = {storages[one] for op, one, *_ in all_writes(index) if op != made_at[one]}
    for made in index.calls_of(lambda name: name in _ZEROS):
        todo = list(index.tensors_made(made))
        while todo:
            tensor = todo.pop()
            if flags[tensor] & PARAMETER or storages[tensor] in written or index.requires_grad(tensor, index.op_count):
                continue
            yield tensor, made
            kept = (op for op in index.users.of(tensor) if index.func(op) in _KEEPS)
            todo += [one for op in kept if op != made for one in index.tensors_made(op) if made_at[one] == op != made]


def _attribute(sources: Sources, file: int, line: int) -> ZeroAttribute | None:
    files = sources.index.recording.files
    if file < 0 or not files[file].is_user:
        return None
    return zero_attribute(files[file].text, line, (one.text for one in files if one.is_user))


def _products(sources: Sources, zeros: int, attribute: ZeroAttribute) -> list[int]:
    """The products of a tensor with what is tracked, to which a pass came."""
    index = sources.index
    return [
        op
        for op in index.users.of(zeros)
        if index.func(op).rpartition(".")[2] in _PRODUCTS
        and any(index.requires_grad(one, op) for one in index.uses.of(op))
        and _pass_through(sources, op) >= 0
        and multiplies(index.span_source(op, exact=True), attribute.name)
    ]


def _pass_through(sources: Sources, op: int) -> int:
    nodes, made = sources.index.recording.tensors.column("node"), sources.index.tensors_made(op)
    return sources.passes.first_walked_at[nodes[made[0]]] if made and nodes[made[0]] >= 0 else NONE


def _finding(sources: Sources, product: _ZeroProduct, walked: list[int]) -> Finding:
    index, last = sources.index, product.ops[-1]
    attribute, line = product.attribute, index.line(product.file, product.attribute.line)
    return sources.finding(
        f"Line {line}: self.{attribute.name} is a plain tensor of zeros, which no step changes",
        why=f"the product of line {index.op_line(last)} was zero in all {index.times(walked):,} backward passes",
        op=last,
        tensors=[product.zeros],
        causes=[
            sources.cause_of_line("made", product.file, attribute.line, attribute.end_line, ""),
            *sources.cause("used", last),
        ],
        evidence=[Evidence("ops", last)],
        advice="Make it an nn.Parameter if it is to be learned.",
    )


DIAGNOSIS = Diagnosis(
    code="zeros-not-learned",
    title="a factor of a module that is a plain tensor of zeros",
    severity="warning",
    explanation=Explanation(
        meaning="""A module's __init__ stored a tensor of zeros as a plain attribute. Nothing gave the attribute another
            value or wrote the tensor, and a product with it went into losses, while an optimizer trained the model.""",
        reason="""parameters() gives what is an nn.Parameter. A plain tensor does not require grad, is in no
            optimizer, and stays as it is. A product with zeros has no part in the loss.""",
        remedy="""self.alpha = nn.Parameter(torch.zeros(n)). What is to stay a constant needs no product.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 3), nn.Linear(3, 1)
        self.alpha = torch.zeros(3)
    def forward(self, x):
        return self.head(x + self.alpha * self.body(x))

model = Gate()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    model(torch.rand(5, 3)).pow(2).mean().backward()
    optimizer.step()
""",
        instead_of="self.alpha = torch.zeros(3)",
        silent="self.alpha = nn.Parameter(torch.zeros(3))",
    ),
    find=_find,
)

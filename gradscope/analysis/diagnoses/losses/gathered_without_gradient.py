"""A loss computed from what a collective gathered of tracked tensors: collectives have no gradient."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.gathered_values import gathered_losses
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in gathered_losses(index, sources.flow, sources.cuts, sources.gradients):
        line = index.op_line(found.op)
        name = index.func(found.op).rpartition(".")[2]
        taken = sources.listed(list(dict.fromkeys(sources.names.at(one, found.op) for one in found.taken)))
        reached = sources.listed([sources.names.at(one, found.backward) for one in found.only_way])
        has = "has" if len(found.only_way) == 1 else "have"
        lost = f"; {reached} {has} no other way into it" if found.only_way else ""
        gather = name.startswith("all_gather")
        function = "all_gather" if gather else name.removesuffix("_tensor").removesuffix("_single")
        own = "Put this process's own tensor back into its place, or use" if gather else "Use"
        yield sources.finding(
            f"Line {line}: what {name} gives of {taken} goes into {sources.names.of(found.root)}, and no gradient "
            "flows back through it",
            why=f"collectives of torch.distributed are not tracked, so it is a constant to autograd{lost}",
            op=found.op,
            tensors=[*found.taken, *found.only_way],
            causes=sources.cause("cut", found.op),
            evidence=[Evidence("ops", found.backward)],
            advice=f"{own} torch.distributed.nn.functional.{function}, which has a gradient.",
        )


DIAGNOSIS = Diagnosis(
    code="gathered-without-gradient",
    title="a loss computed from what was gathered, through which no gradient flows",
    severity="warning",
    explanation=Explanation(
        meaning="""Tensors that autograd tracks were given to a collective (all_gather, reduce_scatter, all_to_all), and
            a loss was computed from what it gave. No gradient flows back through that: not to other processes, nor to
            this one's own part.""",
        reason="""The collectives of torch.distributed write into tensors that are given to them, past autograd. In a
            contrastive loss all that was gathered is then a constant, also what this process itself gave.""",
        remedy="""Put this process's own tensor back into its place (gathered[rank] = features), so that it at least has
            a gradient, or use torch.distributed.nn.functional.all_gather, whose backward sends the others' gradients
            home. Gather under no_grad, or what was detached, where it is meant; that is not reported, nor are single
            numbers.""",
    ),
    example=Example(
        shows="""\
import torch
import torch.distributed as dist
from torch import nn

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
model = nn.Linear(4, 3)
features = model(torch.ones(2, 4))
gathered = [torch.zeros_like(features)]
dist.all_gather(gathered, features)
logits = features @ torch.cat(gathered).T
nn.functional.cross_entropy(logits, torch.arange(2)).backward()
dist.destroy_process_group()
""",
        instead_of="dist.all_gather(gathered, features)",
        silent="dist.all_gather(gathered, features); gathered[0] = features",
    ),
    find=_find,
)

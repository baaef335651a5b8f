"""A target or an average that is updated from weights whose place others have taken."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.averages_of_left import averages_of_left
from gradscope.analysis.report_model import Evidence
from gradscope.frames.names.walked_lists import stores_of_walked


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that updates."""
    index = sources.index
    for found in averages_of_left(index, sources.lives):
        last = found.ops[-1]
        where = index.statements[index.op_statement[last]]
        text = index.recording.files[where.file].text if where.file >= 0 else ""
        kept = [
            sources.cause_of_line("made", where.file, *lines, "")
            for lines in stores_of_walked(text, index.op_line(last))
        ]
        copies, others, trained = (
            sources.listed([sources.names.of(one) for one in several])
            for several in (found.copies, found.sources, found.trained)
        )
        by = f", as line {kept[0].line} keeps them" if len(kept) == 1 else ""
        yield sources.finding(
            f"Line {index.op_line(last)}: updates {copies} from {others}{by}",
            why=f"nothing changes or uses these any more, in {found.rounds:,} rounds of it, while steps change "
            f"{trained} in their place",
            op=last,
            tensors=list(found.copies),
            causes=[*kept, *sources.cause("write", last)],
            evidence=[Evidence("ops", found.ops[0]), Evidence("ops", last)],
            advice="Ask the modules for parameters() at each update, or take them anew when a module is replaced.",
        )


DIAGNOSIS = Diagnosis(
    code="average-of-left-weights",
    title="an average, or a target, is updated from weights that others have taken the place of",
    severity="warning",
    explanation=Explanation(
        meaning="""A statement goes on mixing parameters into others (a target network, a moving average), round after
            round, and nothing else uses or changes the parameters that it reads, while an optimizer steps others of
            the same shapes.""",
        reason="""A list of parameters has those that were there when it was made. When a module is copied, loaded as a
            new object or built anew, its name stands for other parameters, and the list for the old ones.""",
        remedy="""Go through parameters() of the modules at each update; or make the list anew wherever a module is
            replaced.""",
    ),
    example=Example(
        shows="""\
import copy

import torch

net = torch.nn.Linear(4, 1)
target = copy.deepcopy(net)
pairs = list(zip(net.parameters(), target.parameters()))
net = copy.deepcopy(net)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(8):
    optimizer.zero_grad()
    net(torch.rand(8, 4)).pow(2).mean().backward()
    optimizer.step()
    with torch.no_grad():
        for online, averaged in pairs:
            averaged.lerp_(online, 0.1)
""",
        instead_of="net = copy.deepcopy(net)",
        silent="net.train()",
    ),
    find=_find,
)

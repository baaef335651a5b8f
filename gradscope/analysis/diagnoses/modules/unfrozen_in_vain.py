"""Parameters that a loop over named_parameters() was to train: their names begin with something else."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.missed_unfreezing import MissedUnfreezing, missed_unfreezings
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.wording import listed

_SHOWN = 4


def _find(sources: Sources) -> Iterator[Finding]:
    passed = {tensor: group.last_op for group in sources.gradients.groups for tensor in group.frozen}
    for found in missed_unfreezings(sources.index, passed):
        yield _finding(sources, found)


def _finding(sources: Sources, found: MissedUnfreezing) -> Finding:
    index, test = sources.index, found.test
    lines = sorted({line for _, line in found.sought})
    texts = dict.fromkeys(one for one, _ in found.sought)
    sought = " or ".join(f'"{one}"' for one in texts) if len(texts) <= _SHOWN else f"any of the {len(texts)} texts"
    names = sources.listed([sources.names.at(tensor, found.passed) for tensor in found.frozen])
    is_behind = bool(test.behind) and not found.name.startswith(f"{test.behind}.")
    example = f"{test.behind}.{found.name}" if is_behind else found.name
    where = "" if lines == [test.line] else f" of line{'s' * (len(lines) > 1)} {listed([str(one) for one in lines])}"
    return sources.finding(
        f"Line {index.line(found.file, test.line)}: no name that {test.of}.named_parameters() gives begins with "
        f"{sought}{where}: the names begin with what is around it ({example})",
        why=f"{names} did not require grad in the backward passes",
        op=found.passed,
        tensors=list(found.frozen),
        causes=[
            sources.cause_of_line("set", found.file, test.line, test.end_line, ""),
            *(sources.cause_of_line("set", found.file, line, line, "") for line in lines),
        ],
        evidence=[Evidence("changes", row) for row in found.frozen.values()],
        advice="Give whole names, or loop over the parameters of the part itself.",
    )


DIAGNOSIS = Diagnosis(
    code="unfrozen-in-vain",
    title="parameters that are to be trained by name, and have another name",
    severity="warning",
    explanation=Explanation(
        meaning="""A loop over named_parameters() sets requires_grad by what names begin with. Names as they are sought
            there are only found behind the name of another module (or of a wrapper), and the parameters stayed
            frozen.""",
        reason="""named_parameters() of a model gives whole paths: backbone.layer4.0.weight, module.fc.bias behind
            DataParallel, _orig_mod.fc.bias behind torch.compile. A prefix that matches nothing is no error.""",
        remedy="""Give the whole prefix, loop over model.backbone.named_parameters(), or set it by module:
            model.backbone.layer4.requires_grad_(True).""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.ModuleDict({"first": nn.Linear(3, 4), "last": nn.Linear(4, 4)})
        self.head = nn.Linear(4, 1)
    def forward(self, x):
        return self.head(self.body["last"](self.body["first"](x)))

model = Net()
model.body.requires_grad_(False)
for name, p in model.named_parameters():
    if name.startswith("last"):
        p.requires_grad = True
for step in range(3):
    model(torch.ones(2, 3)).sum().backward()
""",
        instead_of='if name.startswith("last"):',
        silent='if name.startswith("body.last"):',
    ),
    find=_find,
)

"""Groups of an optimizer chosen by comparing whole names with what is a part of them."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.parts_of_names import PartSought, parts_sought
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.analysis.wording import listed


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each such choice of an optimizer's groups."""
    for found in parts_sought(sources.index, seen_optimizers(sources.index, sources.events)):
        yield _finding(sources, found)


def _finding(sources: Sources, found: PartSought) -> Finding:
    index, test, made = sources.index, found.test, found.optimizer.made
    lines = [index.line(found.file, line) for line, _ in test.lines]
    tensors = list(dict.fromkeys(tensor for those in found.parts.values() for tensor in those))
    parts = [f'"{part}", a part of {len(those):,} names,' for part, those in found.parts.items()]
    names = sources.listed([sources.names.of(one) for one in tensors])
    name, value = found.setting or ("", None)
    setting = f", {name}={value:.6g}" if isinstance(value, float) else ""
    return sources.finding(
        f"Line{'s' * (len(lines) > 1)} {numbers(lines)}: {test.text} compares whole names, and {listed(parts)} "
        f"{'equals' if len(parts) == 1 else 'equal'} none",
        why=f"{names} have the settings of all the others in the {found.optimizer.name} of line "
        f"{found.optimizer.line}{setting}",
        op=min(made.op, index.op_count - 1),
        tensors=tensors,
        causes=[sources.cause_of_line("set", found.file, first, last, "") for first, last in test.lines],
        evidence=[Evidence("events", group.row) for group in found.optimizer.groups],
        advice="Look for the part in the name: any(part in name for part in parts), or name.endswith(part).",
    )


DIAGNOSIS = Diagnosis(
    code="whole-names-compared",
    title="groups of an optimizer chosen by whole names, where parts of names are meant",
    severity="warning",
    explanation=Explanation(
        meaning="""A loop over named_parameters() puts parameters into the groups of an optimizer by asking whether the
            name is one of some texts. A text of these is no parameter's name, but a part of several: "bias", of
            "0.bias" and "2.bias". All of these have the settings of the parameters that were not asked for.""",
        reason="""name in ["bias"] compares the whole name, from the first module on, with each item of the list; only
            in a text does "in" ask for a part ("bias" in name). Nothing tells that a group got few, or none.""",
        remedy="""any(part in name for part in no_decay), or name.endswith(tuple(no_decay)). Or choose by what the
            parameter is: p.ndim < 2 for biases and the gains of norms.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
no_decay = ["bias"]
decayed = [p for n, p in model.named_parameters() if n not in no_decay]
others = [p for n, p in model.named_parameters() if n in no_decay]
groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups)
model(torch.ones(2, 3)).sum().backward()
optimizer.step()
""",
        instead_of='no_decay = ["bias"]',
        silent='no_decay = ["0.bias", "1.bias"]',
    ),
    find=_find,
)

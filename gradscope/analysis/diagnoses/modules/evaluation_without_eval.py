"""An evaluation of a model, or the answers of a teacher, that nothing put into evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.modules.run_of_model import run_of_model
from gradscope.analysis.diagnoses.modules.teacher_in_training import teachers_in_training
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.evaluations_without_eval import EvaluationWithoutEval, evaluations_without_eval
from gradscope.analysis.facts.modes.mode_runs import mode_runs
from gradscope.analysis.facts.modes.modes_given import is_mode_given
from gradscope.analysis.facts.modes.training_modes import TrainingModes
from gradscope.analysis.report_model import Evidence

_OF_A_MODEL = 4_096
"""Ops behind a layer among which its caller's next is looked for."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each network that teaches so; for each place that evaluates where the program knows no modes."""
    modes = TrainingModes(sources.events)
    runs = [run for run in mode_runs(sources.index, sources.passes) if not is_mode_given(sources.index, run.op)]
    yield from teachers_in_training(sources, modes, runs)
    if modes.calls:
        return
    for found in evaluations_without_eval(sources.index, sources.sharing, runs, sources.cuts.regions):
        yield _finding(sources, found)


def _finding(sources: Sources, found: EvaluationWithoutEval) -> Finding:
    index = sources.index
    kinds = {run.site[0] == "weight" or "norm" in run.site[0] for run in found.runs}
    parts = ["dropouts drop values"] * (False in kinds) + [
        "batch norms normalise with each batch's own statistics and learn from the evaluation's data"
    ] * (True in kinds)
    called = run_of_model(sources, found.called, found.region, found.called + _OF_A_MODEL)
    times = f" ({found.rounds:,} times)" if found.rounds > 1 else ""
    return sources.finding(
        f"Line {called[0].line}: the evaluation runs the model as in training{times}: {' and '.join(parts)}",
        why=f"nothing calls eval() before it, and no_grad (line {index.op_line(found.region)}) does not do that",
        op=found.called,
        tensors=[],
        causes=[*called, *sources.cause("set", found.region)],
        evidence=[Evidence("ops", run.op) for run in found.runs[-2:]],
        advice="Call model.eval() before the evaluation, and model.train() after it.",
    )


DIAGNOSIS = Diagnosis(
    code="evaluated-without-eval",
    title="an evaluation of a model, or a teacher, that is in training mode all the time",
    severity="warning",
    explanation=Explanation(
        meaning="""Without gradients the program ran the model that it trains on other data, and held what came out
            against labels. Nothing ever called eval(): dropouts dropped values there, and batch norms normalised with
            the batch's own statistics and learned from it. Or a network whose training was over gave another one its
            targets (a teacher, the copy of an older state) in training mode, and dropouts dropped values.""",
        reason="""Modules are in training mode from their making on. torch.no_grad() switches gradients off and nothing
            else: what dropouts and batch norms do follows module.training alone.""",
        remedy="""model.eval() before the evaluation, model.train() after it; teacher.eval() where its training is over:
            freezing its parameters does not do that, nor does detach().""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data, labels = torch.randn(24, 4), torch.arange(24) % 2
test, wanted = torch.randn(8, 4), torch.arange(8) % 2
for epoch in range(3):
    for at in range(0, 24, 8):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data[at : at + 8]), labels[at : at + 8]).backward()
        optimizer.step()
    with torch.no_grad():
        print((model(test).argmax(1) == wanted).float().mean().item())
""",
        instead_of="with torch.no_grad():",
        silent="model.eval()\nwith torch.no_grad():",
    ),
    find=_find,
)

"""An average of weights that is put into the model for an evaluation, and that training goes on from."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.averages_left import AveragesLeft, LeftAverage
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters that calls of one line give their average."""
    index, alike = sources.index, dict[int, list[LeftAverage]]()
    for one in AveragesLeft(index, sources.lives).found():
        alike.setdefault(index.op_statement[one.puts[-1]], []).append(one)
    for group in alike.values():
        tensors, last = [one.tensor for one in group], group[0].puts[-1]
        names, times = sources.listed([sources.names.of(tensor) for tensor in tensors]), len(group[0].puts)
        yield sources.finding(
            f"Line {index.op_line(last)}: {index.call_name(last)} puts the running average of {names} in the place of "
            f"the trained values{f' ({times} times)' if times > 1 else ''}, and nothing puts those back",
            why="what was computed then is of the average, and the next steps go on from it: the training since the "
            "last time counts only as far as the average has followed",
            op=last,
            tensors=tensors,
            causes=sources.cause("write", last),
            evidence=[Evidence("ops", op) for one in group for op in (*one.puts[-2:], one.evaluated_at)],
            advice="Keep a copy of the trained values and put it back afterwards, or evaluate a second model.",
        )


DIAGNOSIS = Diagnosis(
    code="average-left-in-model",
    title="training goes on from the average that was put into the model for an evaluation",
    severity="warning",
    explanation=Explanation(
        meaning="""A running average of the weights was copied into the very parameters that train, the model was run
            without a graph, and the next pass and step went on with no other values put back.""",
        reason="""copy_, load_state_dict and x.data = … change the parameters themselves. An average lags behind what
            the steps made, so each evaluation throws training back, and the optimizer's moments belong to other
            weights.""",
        remedy="""Store the trained values before (a clone, or a deepcopy of the state_dict) and restore them after
            the evaluation, or keep the average in a second model and evaluate that. The slow weights of Lookahead,
            which are mixed with the others once before they take their place, are not reported.""",
    ),
    example=Example(
        shows="""\
import copy
import torch

layer = torch.nn.Linear(3, 1)
mean = copy.deepcopy(layer)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for epoch in range(2):
    for step in range(3):
        optimizer.zero_grad()
        layer(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        with torch.no_grad():
            for average, weight in zip(mean.parameters(), layer.parameters()):
                average.lerp_(weight, 0.1)
    trained = copy.deepcopy(layer.state_dict())
    layer.load_state_dict(mean.state_dict())
    with torch.no_grad():
        print(layer(torch.ones(2, 3)))
    print("evaluated")
""",
        instead_of='print("evaluated")',
        silent="layer.load_state_dict(trained)",
    ),
    find=_find,
)

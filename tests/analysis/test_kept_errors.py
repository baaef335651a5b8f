"""Exceptions that are kept: the frames in their tracebacks keep the graphs of what their functions computed."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """import gc
import torch

w = torch.ones(100, requires_grad=True)
errors = []

def loss_of(step):
    loss = (w * step).exp().sum()
    if step % 2:
        raise ValueError("odd")
    return loss

for step in range(12):
    try:
        loss = loss_of(step)
    except ValueError as error:
        {keeps}  # keeps
        continue
    loss.backward()
{after}"""


def told(keeps: str, after: str = "") -> list[tuple[list[int], str]]:
    program = PROGRAM.format(keeps=keeps, after=after)
    answers = build(recorded(program)).answers
    line = line_of(program, "# keeps")
    return [
        ([cause.line - line for cause in one.causes], one.text)
        for one in answers
        if one.code in ("memory-kept-by-graph", "graph-kept-after-pass")
    ]


@pytest.mark.parametrize(
    "keeps",
    [
        "errors.append(error)",
        "errors.append((step, error))",
        "errors.append({'step': step, 'error': error})",
        "errors = [*errors, error]",
    ],
)
def test_the_line_that_keeps_the_errors_is_the_cause(keeps: str) -> None:
    ((lines, text),) = told(keeps)
    assert lines == [0]
    assert "errors keeps exceptions, and the frames in their tracebacks the graphs of 6 results" in text, text


@pytest.mark.parametrize(
    "keeps",
    [
        "errors.append(str(error))",
        "errors.append(error.with_traceback(None))",
        "errors = [error]",
        "last = [step, error]",
    ],
)
def test_what_lets_go_of_the_frames_keeps_no_graph(keeps: str) -> None:
    assert told(keeps) == []


def test_a_list_of_all_objects_is_not_what_keeps_them() -> None:
    after = "alive = [one for one in gc.get_objects() if torch.is_tensor(one) and one.grad_fn is not None]\n"
    ((lines, text),) = told("errors.append(error)", after)
    assert lines == [0]
    assert "errors keeps" in text, text

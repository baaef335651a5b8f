"""What ``why`` answers: the sentence, the way and the lines to change, of programs with one known cause."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradscope.errors import EvaluationError, UsageError
from gradscope.expressions.asking import read_question
from tests.why.questions import cuts_of, lines_of, why

CUT = """
import torch
torch.manual_seed(1)
encoder = torch.nn.Linear(3, 2)
head = torch.nn.Linear(2, 1)

def forward(x):
    h = torch.relu(encoder(x))
    h = h.detach()
    return head(h)

loss = forward(torch.ones(4, 3)).sum()
loss.backward()
"""
TWO_PASSES = """
import torch

w = torch.ones(3, requires_grad=True)
for _ in range(2):
    h = w * 2
    loss = h.sum()
    loss.backward()
"""


def test_a_cut_is_named_with_the_way_to_it(tmp_path: Path):
    answer = why(CUT, tmp_path, "encoder.weight.grad")
    assert answer.text == "encoder.weight.grad is None where the program ends: cut at line 8 by Tensor.detach."
    assert (answer.found, answer.code, [cause.line for cause in answer.changes]) == (True, "grad-none-unreached", [8])
    assert (lines_of(answer), cuts_of(answer)) == ([12, 11, 9, 8, 7, 3], [8])
    names = [step.grad_fn for step in answer.way]
    assert names == ["", "SumBackward0", "AddmmBackward0", "", "ReluBackward0", ""]
    assert answer.way[-1].is_leaf
    assert answer.way[-1].gradient is not None
    assert answer.way[-1].gradient.is_none


def test_a_gradient_that_is_there_is_an_answer_too(tmp_path: Path):
    answer = why(TWO_PASSES, tmp_path, "w.grad")
    norm = f"{torch.full((3,), 4.0).norm().item():.4g}"
    assert answer.text.startswith(f"w.grad has norm {norm} where the program ends. It is the sum of 2 backward passes")
    assert (answer.found, answer.code, answer.changes, cuts_of(answer)) == (True, "", (), [])
    assert lines_of(answer) == [7, 6, 5, 3]


def test_a_question_that_is_not_so_is_answered(tmp_path: Path):
    assert why(TWO_PASSES, tmp_path, "w.grad is zero").text.startswith("w.grad is not zero throughout where the")
    assert why(TWO_PASSES, tmp_path, "w is nan").text.startswith("w is not NaN where the program ends: its norm is")


def test_what_a_function_had_is_known_by_the_name_that_was_seen(tmp_path: Path):
    answer = why(CUT, tmp_path, "forward.h")
    assert "does not require grad (the last that forward was seen to have)" in answer.text
    assert cuts_of(answer) == [8]
    with pytest.raises(EvaluationError, match="raises NameError") as raised:
        why(CUT, tmp_path, "encodr.weight.grad")
    assert "did you mean encoder.weight" in raised.value.hint


def test_a_line_is_evaluated_at_each_of_its_runs(tmp_path: Path):
    answer = why(TWO_PASSES, tmp_path, "w.grad", at=5)
    assert answer.looked == 2
    assert "w.grad has norm 3.464 at line 5. It is from the backward pass of line 7." in answer.text
    first = why(TWO_PASSES, tmp_path, "w.grad is none", at=5)
    assert "w.grad is None at line 5: no backward pass ran before" in first.text
    with pytest.raises(UsageError, match="has no statement at line 99"):
        why(TWO_PASSES, tmp_path, "w.grad", at=99)


def test_where_a_program_raises_its_functions_names_are_there(tmp_path: Path):
    source = """
    import torch

    def main():
        w = torch.ones(3, requires_grad=True)
        half = w.sum() / 2
        half.backward()
        raise ValueError("enough")

    main()
    """
    answer = why(source, tmp_path, "w.grad")
    assert "w.grad has norm 0.866 where the program raised (line 7)" in answer.text
    assert answer.run.outcome == "exception"


def test_a_nan_is_led_back_to_where_it_was_born_and_to_no_other(tmp_path: Path):
    source = """
    import torch

    x = torch.tensor([0.0, 4.0], requires_grad=True)
    y = torch.where(x > 0, torch.sqrt(x), torch.zeros(2))
    y.sum().backward()
    z = torch.log(x - 1)
    """
    gradient = why(source, tmp_path, "x.grad")
    assert gradient.text.startswith("x.grad is NaN in 1 of 2 elements where the program ends. Line 4: the")
    assert [cause.line for cause in gradient.changes] == [4]
    unseen = why(source, tmp_path, "z")
    assert (unseen.found, unseen.lacks_birth, unseen.changes) == (False, True, ())
    seen = why(source, tmp_path, "z", nan=True)
    assert [cause.line for cause in seen.changes] == [6]


def test_a_zero_gradient_is_led_back_to_the_derivative_that_is_zero(tmp_path: Path):
    source = """
    import torch

    w = torch.ones(3, requires_grad=True)
    v = torch.ones(3, requires_grad=True)
    h = (w * 2).clamp(max=1.0)
    (h * v).sum().backward()
    """
    answer = why(source, tmp_path, "w.grad")
    assert answer.text.startswith("w.grad is zero throughout where the program ends. Line 5: the derivative of")
    assert [cause.line for cause in answer.changes] == [5]
    assert why(source, tmp_path, "v.grad").code == ""


def test_a_pass_that_raised_is_why_there_is_no_gradient(tmp_path: Path):
    source = """
    import torch

    w = torch.ones(3, requires_grad=True)
    h = w.exp()
    h.mul_(2)
    h.sum().backward()
    """
    answer = why(source, tmp_path, "w.grad")
    assert answer.text.startswith("w.grad is None where the program raised (line 6): the backward pass raised.")
    assert (answer.code, [cause.line for cause in answer.changes][:1]) == ("inplace-error", [5])


def test_values_that_left_torch_leave_a_gap_in_the_way(tmp_path: Path):
    source = """
    import torch

    w = torch.ones(3, requires_grad=True)
    v = torch.ones(3, requires_grad=True)
    number = (w * 2).sum().item()
    loss = (v * torch.tensor(number)).sum()
    loss.backward()
    """
    answer = why(source, tmp_path, "w.grad")
    assert "gap" in [step.kind for step in answer.way]
    assert (answer.way[0].place.line, answer.way[-1].place.line) == (7, 3)
    assert 5 in lines_of(answer)


def test_a_pass_that_has_nothing_to_do_with_a_leaf_is_not_its_reason(tmp_path: Path):
    source = """
    import torch

    asked = torch.ones(2, requires_grad=True)
    (gradient,) = torch.autograd.grad((asked * 3).sum(), asked)
    other = torch.ones(2, requires_grad=True)
    (other * 2).sum().backward()
    late = torch.nn.Linear(2, 2)
    """
    assert why(source, tmp_path, "asked.grad").text == (
        "asked.grad is None where the program ends: line 4 (torch.autograd.grad) returned its gradient, which leaves "
        ".grad as it is."
    )
    late = why(source, tmp_path, "late.weight.grad")
    assert (late.code, late.severity) == ("grad-none-no-backward", "note")
    assert late.text.endswith("no backward pass ran after line 7 had made it.")


def test_what_was_frozen_names_the_line_that_froze_it(tmp_path: Path):
    source = """
    import torch

    model = torch.nn.Linear(2, 1)
    model.weight.requires_grad_(False)
    model(torch.ones(3, 2)).sum().backward()
    """
    answer = why(source, tmp_path, "model.weight.grad")
    assert answer.text.endswith("it does not require grad: line 4 (Tensor.requires_grad_) had turned that off.")
    assert [cause.line for cause in answer.changes] == [4]
    assert why(source, tmp_path, "model.bias.grad").code == ""


def test_a_functions_own_forward_cuts_nothing(tmp_path: Path):
    source = """
    import torch

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2

    w = torch.ones(3, requires_grad=True)
    h = Double.apply(w)
    h.sum().backward()
    """
    answer = why(source, tmp_path, "w.grad")
    assert cuts_of(answer) == []
    assert "DoubleBackward" in [step.grad_fn for step in answer.way]


def test_a_reentrant_checkpoint_that_no_gradient_comes_through_cuts_the_way(tmp_path: Path):
    source = """
    import torch
    from torch.utils.checkpoint import checkpoint

    block = torch.nn.Linear(2, 2)
    head = torch.nn.Linear(2, 1)
    h = checkpoint(block, torch.ones(3, 2), use_reentrant=True)
    head(h).sum().backward()
    """
    answer = why(source, tmp_path, "block.weight.grad")
    assert [cause.line for cause in answer.changes] == [6]
    assert cuts_of(answer) == [6]
    assert answer.way[-1].name == "block.weight"


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("loss.item()", "loss.item() is a float, no tensor", "ask for a tensor: loss"),
        ("encoder", "encoder is a Linear, no tensor", "ask for one of its parameters: encoder.weight.grad"),
        ("1 / 0", "1 / 0, evaluated where the program ends, raises ZeroDivisionError", ""),
        ("encoder.weight[0]", "is a tensor that no call of the program was seen to make", "ask for the whole"),
    ],
)
def test_what_is_no_tensor_of_the_programs_is_said_so(tmp_path: Path, text: str, said: str, hint: str):
    with pytest.raises(EvaluationError) as raised:
        why(CUT, tmp_path, text)
    assert said in raised.value.message
    assert hint in raised.value.hint


def test_a_line_is_asked_about(tmp_path: Path):
    assert why(CUT, tmp_path, lines=(8, 8)).code == "leaf-unreached"
    healthy = why(TWO_PASSES, tmp_path, lines=(5, 5))
    assert healthy.text.startswith("Nothing was found that is wrong at line 5: it called Tensor.mul, and gave h")
    with pytest.raises(EvaluationError, match="line 1: no torch call was seen there"):
        why(TWO_PASSES, tmp_path, lines=(1, 1))


def test_without_a_question_the_first_problem_is_told(tmp_path: Path):
    assert [cause.line for cause in why(CUT, tmp_path).changes] == [8]
    healthy = why(TWO_PASSES, tmp_path)
    assert (healthy.found, healthy.way) == (False, ())
    assert healthy.text.startswith("No problem was seen in this run of")


@pytest.mark.parametrize(
    ("text", "expression", "tensor", "condition"),
    [
        ("w.grad is zero", "w.grad", "w", "zero"),
        ("a.b['x'].grad  IS  NaN", "a.b['x'].grad", "a.b['x']", "nan"),
        ("h", "h", "h", ""),
        ("w.grad is None", "w.grad", "w", "none"),
    ],
)
def test_a_question_is_read(text: str, expression: str, tensor: str, condition: str):
    question = read_question(text)
    assert (question.expression, question.tensor, question.condition) == (expression, tensor, condition)


def test_what_to_do_is_told_by_the_kind_of_the_cut(tmp_path: Path):
    assert why(CUT, tmp_path, "encoder.weight.grad").advice.startswith("Leave the detach out where a gradient is to")
    for line, said in (
        ("h = h.data", "Use the tensor itself"),
        ("h = torch.from_numpy(h.detach().numpy())", "Stay with tensors"),
        ("h = torch.round(h).long().float()", "Compute with something that has a gradient"),
    ):
        assert said in why(CUT.replace("h = h.detach()", line), tmp_path, "encoder.weight.grad").advice


def test_of_cuts_that_lie_behind_each_other_the_nearest_is_named(tmp_path: Path):
    source = """
    import torch

    critic = torch.nn.Linear(2, 1)
    fake = (torch.ones(3, 2) * critic.weight).detach()
    fake.requires_grad_(True)
    slope, = torch.autograd.grad(critic(fake).sum(), fake)
    penalty = slope.norm()
    """
    answer = why(source, tmp_path, "penalty")
    assert answer.text.endswith("is cut at line 6 by torch.autograd.grad (without create_graph).")
    assert ([cause.line for cause in answer.changes], cuts_of(answer)) == ([6], [6])
    assert "create_graph=True" in answer.advice


def test_the_error_that_ended_the_run_comes_before_what_it_left_undone(tmp_path: Path):
    untracked = """
    import torch

    w = torch.zeros(3, requires_grad=True)
    with torch.no_grad():
        w = w - 1
    loss = w.sum()
    loss.backward()
    """
    assert why(untracked, tmp_path, "loss").code == "backward-no-grad"
    forward = """
    import torch

    probe = torch.nn.Linear(3, 1)
    with torch.inference_mode():
        features = torch.ones(2, 3) * 2
    probe(features).sum().backward()
    """
    answer = why(forward, tmp_path, "probe.weight.grad")
    assert (answer.code, answer.changes[0].line) == ("inference-tensor", 4)
    assert "the program raised before a backward pass ran" in answer.text


def test_a_name_that_holds_a_number_is_led_back_to_what_took_it_out(tmp_path: Path):
    source = """
    import torch

    def step(w):
        extra = w.sum().item()
        loss = w.pow(2).sum() + 3 * extra
        loss.backward()
        count = 3

    step(torch.ones(3, requires_grad=True))
    """
    answer = why(source, tmp_path, "extra")
    assert answer.text.startswith("extra is no tensor: line 4 (Tensor.item) takes it out of one.")
    assert (answer.code, [cause.line for cause in answer.changes]) == ("term-without-gradient", [4])
    with pytest.raises(EvaluationError, match="raises NameError"):
        why(source, tmp_path, "count")


def test_what_a_module_holds_is_known_by_its_position(tmp_path: Path):
    source = """
    import torch

    def main():
        net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        net(torch.ones(2, 3)).detach().sum()
        torch.ones(1, requires_grad=True).sum().backward()

    main()
    """
    assert why(source, tmp_path, "net[2].weight.grad").text.startswith("net[2].weight.grad is None (the last that main")


def test_a_call_on_the_way_that_loses_a_part_is_told_beside_it(tmp_path: Path):
    source = """
    import torch

    gain = torch.nn.Parameter(torch.randn(4, dtype=torch.complex64))
    full = torch.zeros({dtype}4)
    full[:] = gain * 2
    full.abs().sum().backward()
    """
    told = why(source.replace("{dtype}", ""), tmp_path, "gain.grad")
    assert [one.code for one in told.further] == ["imaginary-part-lost"]
    assert not why(source.replace("{dtype}4", "4, dtype=torch.complex64"), tmp_path, "gain.grad").further


def test_gradients_that_were_cleared_too_early(tmp_path: Path):
    source = """
    import torch

    w = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([w], lr=0.1)
    for _ in range(3):
        w.sum().backward()
        optimizer.zero_grad()
        optimizer.step()
    """
    answer = why(source, tmp_path, "w.grad")
    assert (answer.code, answer.changes[0].line) == ("never-stepped", 7)
    assert answer.text.startswith("w.grad is None where the program ends: line 7")

"""Optimizer steps that change too little or apply too much."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import recorded

HEAD = """
import torch
from torch import nn
first, second = nn.Linear(2, 2), nn.Linear(2, 1)
parameters = [*first.parameters(), *second.parameters()]
x = torch.ones(3, 2)
"""


def found(source: str, code: str) -> list[Answer]:
    """The answers of one code to a program."""
    return [answer for answer in build(recorded(HEAD + source)).answers if answer.code == code]


def told(source: str, code: str) -> list[str]:
    """What they say."""
    return [answer.text for answer in found(source, code)]


def test_parameters_that_are_in_no_optimizer() -> None:
    source = """
optimizer = torch.optim.SGD(first.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    second(first(x)).sum().backward()
    optimizer.step()
"""
    (text,) = told(source, "never-stepped")
    assert text == (
        "Backward gave second.weight and second.bias gradients (4 passes), and no optimizer step changed "
        "them: the SGD of line 7 does not hold them."
    )


def test_parameters_that_are_stepped_are_not_named_with_the_others() -> None:
    source = """
model = nn.Sequential(*[nn.Linear(2, 2) for _ in range(4)])
optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
for step in range(4):
    model.zero_grad()
    model(x).sum().backward()
    optimizer.step()
"""
    (text,) = told(source, "never-stepped")
    assert "model.1.* (2), model.2.* (2) and model.3.* (2) gradients" in text


def test_parameters_that_were_replaced_after_the_optimizer_was_made() -> None:
    source = """
optimizer = torch.optim.Adam(first.parameters(), lr=0.1)
first.weight = nn.Parameter(torch.zeros(2, 2))
for step in range(4):
    optimizer.zero_grad()
    first(x).sum().backward()
    optimizer.step()
"""
    (text,) = told(source, "never-stepped")
    assert "Backward gave first.weight gradients (4 passes)" in text


LATE = """
model = nn.Sequential(first, second)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
other = torch.optim.SGD([nn.Parameter(torch.ones(5))], lr=0.1)
{}
for step in range(4):
    optimizer.zero_grad()
    model(x).sum().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("change", "them"),
    [
        ("model[1] = nn.Linear(2, 1)", "them"),
        ("model[0].weight = nn.Parameter(torch.zeros(2, 2))", "it"),
        ("model.append(nn.Linear(1, 1))", "them"),
    ],
)
def test_parameters_made_after_the_optimizer_name_it_and_the_line_that_made_them(change: str, them: str) -> None:
    (answer,) = found(LATE.format(change), "never-stepped")
    assert [cause.line for cause in answer.causes] == [8, 10]
    assert f"changed {them}: the SGD of line 8 was made before {them} and does not hold {them}, as " in answer.text
    assert f"{'they were' if them == 'them' else 'it was'} made later, at line 10" in answer.text


def test_the_line_that_puts_a_new_layer_on_the_model_and_the_call_that_does_are_named() -> None:
    change = "def grow():\n    new = nn.Linear(2, 1)\n    model.pop(1)\n    model.head = new\n\ngrow()"
    (answer,) = found(LATE.format(change), "never-stepped")
    assert [cause.line for cause in answer.causes] == [8, 13, 15]
    assert "line 13, called at line 15, put them there (model.head) later" in answer.text


@pytest.mark.parametrize("change", ["model.double(); model.float()", "optimizer.add_param_group({'params': [x]})"])
def test_parameters_that_stay_the_same_objects_are_stepped(change: str) -> None:
    assert told(LATE.format(change), "never-stepped") == []


@pytest.mark.parametrize("made", ["torch.optim.SGD", "(lambda *a, **k: torch.optim.SGD(*a, **k))"])
def test_an_optimizer_that_holds_them_and_makes_no_step(made: str) -> None:
    source = f"""
optimizer = torch.optim.Adam(first.parameters(), lr=0.1)
other = {made}(second.parameters(), lr=0.1)
for step in range(4):
    first.zero_grad(), second.zero_grad()
    second(first(x)).sum().backward()
    optimizer.step()
"""
    (answer,) = found(source, "never-stepped")
    assert "the SGD of line 8 holds them, and no step of it was seen" in answer.text
    assert [cause.line for cause in answer.causes] == [8]


def test_gradients_that_are_cleared_between_backward_and_the_step() -> None:
    source = """
optimizer = torch.optim.SGD(parameters, lr=0.1)
for step in range(4):
    loss = second(first(x)).sum()
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
"""
    (answer,) = found(source, "never-stepped")
    assert "line 11 (Optimizer.zero_grad) cleared their gradients between backward and the step" in answer.text
    assert [cause.line for cause in answer.causes] == [11]


def test_no_optimizer_is_named_where_another_made_the_steps() -> None:
    source = """
from torch.overrides import BaseTorchFunctionMode
other = torch.optim.SGD([nn.Parameter(torch.ones(5))], lr=0.1)
with BaseTorchFunctionMode():
    optimizer = torch.optim.Adam(first.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    second(first(x)).sum().backward()
    optimizer.step()
"""
    (answer,) = found(source, "never-stepped")
    assert answer.causes == ()
    assert "line 14 (Adam.step) updated 2 others" in answer.text


@pytest.mark.parametrize(
    "update",
    [
        "with torch.no_grad():\n        for p in second.parameters(): p -= 0.1 * p.grad",
        "for p in second.parameters(): p.data.sub_(0.1 * p.grad)",
        "other.step()",
    ],
)
def test_parameters_that_are_updated_otherwise(update: str) -> None:
    source = f"""
optimizer = torch.optim.SGD(first.parameters(), lr=0.1)
other = torch.optim.Adam(second.parameters(), lr=0.1)
for step in range(4):
    first.zero_grad(), second.zero_grad()
    second(first(x)).sum().backward()
    optimizer.step()
    {update}
"""
    assert told(source, "never-stepped") == []


def test_a_forgotten_zero_grad() -> None:
    source = """
optimizer = torch.optim.SGD(parameters, lr=0.1)
for step in range(5):
    second(first(x)).sum().backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
"""
    (text,) = told(source, "gradients-applied-again")
    assert "Line 11: SGD.step applied gradients of earlier steps again (4 times)" in text
    assert "Call zero_grad() once a step" in text


LISTED = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.mix, self.critic = (nn.Linear(2, 2) for _ in range(3))
    def own(self):
        return [*self.body.parameters(){}]
net = Net()
optimizer = torch.optim.SGD(net.own(), lr=0.1)
second = torch.optim.SGD(net.critic.parameters(), lr=0.1)
for step in range(4):
    out = net.mix(net.body(x))
    net.zero_grad()
    (out.sum() - net.critic(out).sum()).backward()
    optimizer.step()
    second.zero_grad()
    net.critic(out.detach()).sum().backward()
    second.step()
"""


def test_the_function_that_lists_the_parameters_of_an_optimizer_is_the_cause() -> None:
    """Of two optimizers it is the one whose step follows the pass: the loss leads to what the other holds as well."""
    (answer,) = found(LISTED.format(""), "never-stepped")
    assert [cause.line for cause in answer.causes] == [12, 14]
    assert "line 12 leaves them out of what the SGD of line 14 is given" in answer.text
    assert found(LISTED.format(", *self.mix.parameters()"), "never-stepped") == []


ASCENT = """
optimizer = torch.optim.SGD(parameters, lr=0.1)
@torch.no_grad()
def move(sign):
    for p in parameters:
        if sign > 0:
            moved[p] = 0.05 * p.grad
        p.add_(moved[p], alpha=sign)
moved = {{}}
for step in range(5):
    second(first(x)).sum().backward()
    move(1)
    {}
    second(first(x)).sum().backward()
    move(-1)
    optimizer.step()
    optimizer.zero_grad()
"""


def test_the_update_by_hand_whose_gradients_a_step_applies_too_is_the_cause() -> None:
    (answer,) = found(ASCENT.format("pass"), "gradients-applied-again")
    assert [cause.line for cause in answer.causes] == [17]
    assert answer.text.startswith("Line 17: this writes into")
    assert "SGD.step applied both" in answer.text
    assert found(ASCENT.format("optimizer.zero_grad()"), "gradients-applied-again") == []


def test_what_clears_the_gradients_of_one_module_only_is_the_cause() -> None:
    source = """
optimizer = torch.optim.SGD(parameters, lr=0.1)
for step in range(5):
    first.zero_grad()
    second(first(x)).sum().backward()
    optimizer.step()
"""
    (answer,) = found(source, "gradients-applied-again")
    assert [cause.line for cause in answer.causes] == [9]
    assert "Line 9: nn.Module.zero_grad does not clear .grad of second.weight and second.bias" in answer.text


def test_the_closure_that_clears_nothing_is_the_cause() -> None:
    source = """
optimizer = torch.optim.LBFGS(parameters, lr=0.1, max_iter=4)
def closure():
    {}
    loss = (second(first(x)) - 1).pow(2).sum()
    loss.backward()
    return loss
for step in range(2): optimizer.step(closure)
"""
    (answer,) = found(source.format("pass"), "gradients-applied-again")
    assert [cause.line for cause in answer.causes] == [9, 11]
    assert "Line 9: the closure begins without clearing" in answer.text
    assert found(source.format("optimizer.zero_grad()"), "gradients-applied-again") == []


@pytest.mark.parametrize(
    "clear",
    [
        "optimizer.zero_grad()",
        "optimizer.zero_grad(set_to_none=False)",
        "first.zero_grad(), second.zero_grad()",
        "for p in parameters: p.grad = None",
        "for p in parameters: p.grad.zero_()",
        "for p in parameters: p.grad.data.zero_()",
        "for p in parameters: p.grad *= 0",
    ],
)
def test_gradients_that_are_cleared(clear: str) -> None:
    source = f"""
optimizer = torch.optim.SGD(parameters, lr=0.1)
for step in range(5):
    second(first(x)).sum().backward()
    second(first(x)).sum().backward()
    optimizer.step()
    {clear}
"""
    assert told(source, "gradients-applied-again") == []


def test_an_optimizer_that_was_given_what_another_has() -> None:
    source = """
one = torch.optim.SGD(first.parameters(), lr=0.1)
other = torch.optim.SGD(first.parameters(), lr=0.1)
for step in range(4):
    one.zero_grad()
    second(first(x)).sum().backward()
    one.step()
    other.step()
"""
    (answer,) = found(source, "never-stepped")
    assert [cause.line for cause in answer.causes] == [8]


def test_clipping_of_parameters_that_have_no_gradients() -> None:
    source = """
optimizer = torch.optim.SGD(second.parameters(), lr=0.1)
first.requires_grad_(False)
for step in range(4):
    optimizer.zero_grad()
    second(first(x)).sum().backward()
    nn.utils.clip_grad_norm_(first.parameters(), 1.0)
    optimizer.step()
"""
    (answer,) = found(source, "clipped-in-vain")
    assert [cause.line for cause in answer.causes] == [12]
    assert found(source.replace("clip_grad_norm_(first", "clip_grad_norm_(second"), "clipped-in-vain") == []


def test_steps_of_a_schedule_that_is_only_looked_at_are_no_finding() -> None:
    source = """
optimizer = torch.optim.SGD(second.parameters(), lr=0.1)
loss = second(first(x)).sum()
for step in range(4):
    optimizer.step()
"""
    assert found(source, "step-without-backward") == []


@pytest.mark.parametrize(
    "update",
    [
        "with torch.no_grad(): w -= 0.1 * w.grad",
        "w.data.add_(w.grad.data, alpha=-0.1)",
        "with torch.no_grad(): w.copy_(w - 0.1 * w.grad.clamp(-1, 1))",
        "w.data = (w.data - 0.1 * w.grad.detach().sign()).clamp(-1, 1)",
    ],
)
def test_an_update_by_hand_that_clears_nothing(update: str) -> None:
    source = """
w = torch.zeros(2, requires_grad=True)
for step in range(4):
    (x @ w).sum().backward()
    {}
    {}
"""
    (answer,) = found(source.format(update, "pass"), "gradients-applied-again")
    assert [cause.line for cause in answer.causes] == [9, 10]
    assert "Set .grad to None" in answer.advice
    assert found(source.format(update, "w.grad = None"), "gradients-applied-again") == []
    assert found(source.format("with torch.no_grad(): w.mul_(0.9)", "pass"), "gradients-applied-again") == []


def test_a_leaf_of_no_optimizer_that_another_optimizers_zero_grad_is_not_to_clear() -> None:
    source = """
optimizer = torch.optim.SGD(first.parameters(), lr=0.1)
delta = torch.zeros(3, 2, requires_grad=True)
for step in range(4):
    optimizer.zero_grad()
    first(x + delta).sum().backward()
    delta.data = (delta + 0.1 * delta.grad.sign()).clamp(-1, 1)
    {}
optimizer.step()
"""
    (answer,) = found(source.format("pass"), "gradients-applied-again")
    assert [cause.line for cause in answer.causes] == [11, 12]
    assert found(source.format("delta.grad = None"), "gradients-applied-again") == []
    attack = source.replace("    optimizer.zero_grad()", "    first.zero_grad()").replace("\noptimizer.step()", "")
    (answer,) = found(attack.format("pass"), "gradients-applied-again")
    assert [cause.line for cause in answer.causes] == [10]
    assert "nn.Module.zero_grad does not clear .grad of delta" in answer.text


@pytest.mark.parametrize("copy", ["p.detach().requires_grad_()", "p.clone().detach().requires_grad_()"])
def test_an_optimizer_of_copies_names_the_line_that_made_them(copy: str) -> None:
    source = f"""
copies = [{copy} for p in first.parameters()]
optimizer = torch.optim.SGD(copies, lr=0.1)
for step in range(4):
    first(x).sum().backward()
    optimizer.step()
"""
    (answer,) = found(source, "never-stepped")
    assert answer.causes[0].line == 7
    later = """
adam = torch.optim.Adam(second.parameters())
for step in range(2):
    adam.zero_grad()
    second(x).sum().backward()
    adam.step()
"""
    # (an optimizer that is made when all that is over is not the one that should hold them)
    (answer,) = found(source + later, "never-stepped")
    assert answer.causes[0].line == 7


@pytest.mark.parametrize(
    ("held", "steps", "lines"),
    [
        ("parameters", "optimizer.step(); other.step()", [8, 7]),
        ("second.parameters()", "optimizer.step(); other.step()", []),
        ("parameters", "optimizer.step(); optimizer.zero_grad(); other.step()", []),
        ("parameters", "optimizer.step()", []),
    ],
)
def test_parameters_that_two_optimizers_step(held: str, steps: str, lines: list[int]) -> None:
    source = f"""
optimizer = torch.optim.SGD(first.parameters(), lr=0.1)
other = torch.optim.Adam({held}, lr=0.1)
for step in range(4):
    optimizer.zero_grad(), other.zero_grad()
    second(first(x)).sum().backward()
    {steps}
"""
    answers = found(source, "gradient-applied-twice")
    assert [cause.line for answer in answers for cause in answer.causes] == lines


@pytest.mark.parametrize(
    ("made", "lines"),
    [
        ("torch.optim.SGD(first.parameters(), lr=0.1), torch.optim.SGD(parameters, lr=0.1)", [6]),
        (
            "torch.optim.SGD([*first.parameters(), *unused.parameters()], lr=0.1), torch.optim.SGD(parameters, lr=0.1)",
            [6],
        ),
        ("torch.optim.SGD(first.parameters(), lr=0.1), torch.optim.SGD(second.parameters(), lr=0.1)", []),
    ],
)
@pytest.mark.parametrize(
    "steps", ["for one in optimizers:\n        one.step()", "[one.step() for one in optimizers]"], ids=["loop", "list"]
)
def test_parameters_that_two_optimizers_of_one_class_step_at_one_line(made: str, lines: list[int], steps: str) -> None:
    source = f"""optimizers = {made}
for step in range(4):
    for one in optimizers:
        one.zero_grad()
    second(first(x)).sum().backward()
    {steps}
"""
    answers = found(f"unused = nn.Linear(2, 2); {source}", "gradient-applied-twice")
    assert [cause.line for answer in answers for cause in answer.causes] == lines
    own = source.replace("    second(first", "        second(first").replace(steps, "    one.step()")
    assert found(f"unused = nn.Linear(2, 2); {own}", "gradient-applied-twice") == []


@pytest.mark.parametrize(
    ("made", "rounds", "lines"),
    [
        ("torch.optim.Adam(parameters, lr=0.1)", 1, [8]),
        ("torch.optim.SGD(parameters, lr=0.1, momentum=0.9)", 1, [8]),
        ("torch.optim.SGD(parameters, lr=0.1)", 1, []),
        ("torch.optim.Adam(parameters, lr=0.1)", 3, []),
    ],
)
def test_an_optimizer_that_is_made_for_each_step(made: str, rounds: int, lines: list[int]) -> None:
    source = f"""
for step in range(5):
    optimizer = {made}
    for _ in range({rounds}):
        optimizer.zero_grad()
        second(first(x)).sum().backward()
        optimizer.step()
"""
    answers = found(source, "optimizer-made-anew")
    assert [cause.line for answer in answers for cause in answer.causes] == lines


@pytest.mark.parametrize(
    ("passes", "lines"),
    [
        ("part.backward(retain_graph=True); (whole + part).backward()", [11]),
        ("part.backward(retain_graph=True)\n    (whole + part).backward()", [11]),
        ("part.backward(retain_graph=True)\n    whole.backward()", []),
        ("part.backward(retain_graph=True)\n    optimizer.zero_grad()\n    (whole + part).backward()", []),
    ],
)
def test_a_part_of_the_loss_that_is_counted_twice(passes: str, lines: list[int]) -> None:
    source = f"""
optimizer = torch.optim.SGD(parameters, lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    part, whole = first(x).pow(2).sum(), second(first(x)).sum()
    {passes}
    optimizer.step()
"""
    answers = found(source, "term-counted-twice")
    assert [cause.line for answer in answers for cause in answer.causes] == lines


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("n != '0.bias'", "it: the SGD does not hold it, as the choice by name at line 8 leaves it out."),
        ("n.startswith('1')", "them: the SGD does not hold them, as the choice by name at line 8 leaves them out."),
    ],
)
def test_what_a_choice_by_name_leaves_out_is_one_or_several(choice: str, said: str) -> None:
    (text,) = told(
        f"""
model = nn.Sequential(first, second)
optimizer = torch.optim.SGD([p for n, p in model.named_parameters() if {choice}], lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    model(x).sum().backward()
    optimizer.step()
""",
        "never-stepped",
    )
    assert f"no optimizer step changed {said}" in text

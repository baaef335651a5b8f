"""Terms of a loss that compare a tensor with itself; and those that do so at times, on purpose, or not at all."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
import torch.nn.functional as F
def net():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
teacher, student = net().requires_grad_(False), net()
{tap}
optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
for step in range(3):
    x = torch.randn(5, 3)
    with torch.no_grad():
        soft = teacher(x)
    out = student(x)
    hint = {hint}  # compared
    loss = F.mse_loss(out, soft) + hint
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
BY_DEFAULT = """def tap(model, kept={}):  # one
    model[0].register_forward_hook(lambda module, given, out: kept.__setitem__("hidden", out))
    return kept
of_teacher, of_student = tap(teacher), tap(student)"""
BY_CLASS = """class Tap:
    kept = {}  # one
    def __init__(self, model):
        model[0].register_forward_hook(self.keep)
    def keep(self, module, given, out):
        self.kept["hidden"] = out
of_teacher, of_student = Tap(teacher), Tap(student)"""
BY_INIT = """class Tap:
    def __init__(self, model, *, kept={}):  # one
        self.kept = kept
        model[0].register_forward_hook(self.keep)
    def keep(self, module, given, out):
        self.kept["hidden"] = out
of_teacher, of_student = Tap(teacher), Tap(student)"""
BY_CALLER = """def tap(model, kept):
    model[0].register_forward_hook(lambda module, given, out: kept.__setitem__("hidden", out))
    return kept
features = {}
of_teacher = tap(teacher, features)
of_student = tap(student, features)  # one"""
BY_CHAIN = """of_teacher = of_student = {}  # one
for model, kept in ((teacher, of_teacher), (student, of_student)):
    model[0].register_forward_hook(lambda module, given, out, kept=kept: kept.__setitem__("hidden", out))"""
ITEMS = "F.mse_loss(of_student['hidden'], of_teacher['hidden'])"
ATTRIBUTES = "nn.MSELoss()(of_student.kept['hidden'], of_teacher.kept['hidden'].detach())"
ZIPPED = "sum(F.l1_loss(a, b.detach()) for a, b in zip(of_student.values(), of_teacher.values()))"
DIFFERENCE = "(of_student['hidden'] - of_teacher['hidden']).pow(2).mean()"


def causes(source: str, code: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == code]


@pytest.mark.parametrize(
    ("tap", "hint", "code"),
    [
        (BY_DEFAULT, ITEMS, "default-argument-written"),
        (BY_DEFAULT, ZIPPED, "default-argument-written"),
        (BY_DEFAULT, DIFFERENCE, "default-argument-written"),
        (BY_INIT, ATTRIBUTES, "default-argument-written"),
        (BY_CLASS, ATTRIBUTES, "one-tensor-two-names"),
        (BY_CALLER, ITEMS, "one-tensor-two-names"),
        (BY_CHAIN, ITEMS, "one-tensor-two-names"),
    ],
)
def test_what_makes_both_one_object_is_the_line_to_change(tap: str, hint: str, code: str) -> None:
    source = PROGRAM.format(tap=tap, hint=hint)
    assert causes(source, code) == [line_of(source, "# one")]


def test_where_the_text_does_not_show_it_the_line_that_compares_is_named() -> None:
    tap = "import types\nkept = types.SimpleNamespace()\n" + "".join(
        f"{model}[0].register_forward_hook(lambda module, given, out: setattr(kept, 'hidden', out))\n"
        for model in ("teacher", "student")
    )
    source = PROGRAM.format(tap=tap + "of = kept\n", hint="F.mse_loss(of.hidden, kept.hidden)")
    assert causes(source, "one-tensor-two-names") == [line_of(source, "# compared")]


@pytest.mark.parametrize(
    ("tap", "hint"),
    [
        (BY_DEFAULT.replace("kept={}", "kept=None").replace("\n", "\n    kept = {}\n", 1), ITEMS),
        (BY_DEFAULT.replace("tap(teacher), tap(student)", "tap(teacher, {}), tap(student, {})"), ITEMS),
        (BY_CLASS.replace("    def keep", "        self.kept = {}\n    def keep"), ATTRIBUTES),
        (BY_DEFAULT, "F.mse_loss(of_student['hidden'], of_student['hidden'].detach())"),
        (BY_DEFAULT, "sum(F.mse_loss(a, b) for a in (out, soft) for b in (out, soft))"),
        ("before = None", "(out - (out if before is None else before)).pow(2).mean(); before = out.detach()"),
        (BY_DEFAULT, "(of_student['hidden'] * of_teacher['hidden']).mean()"),
        (BY_DEFAULT, "F.mse_loss(of_student['hidden'], of_teacher['hidden']).detach()"),
    ],
)
def test_two_objects_and_comparisons_that_are_of_one_at_times_are_none(tap: str, hint: str) -> None:
    source = PROGRAM.format(tap=tap, hint=hint)
    assert causes(source, "default-argument-written") + causes(source, "one-tensor-two-names") == []


HOOKED = """
import copy
import torch
from torch import nn
torch.manual_seed(0)
features = {{}}
def keep(key):
    def hook(module, args, output):
        features[key] = output
    return hook
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = {body}, nn.Linear(4, 2)
    def forward(self, x):
        return self.head(self.body(x))
student = Net()
{before}
teacher = copy.deepcopy(student)  # copied
{after}
optimizer, x = torch.optim.Adam(student.parameters(), lr=0.01), torch.randn(8, 4)
for step in range(4):
    logits = student(x)
    with torch.no_grad():
        wanted = teacher.body(x)
    loss = logits.pow(2).mean() + {term}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
ON_STUDENT = "student.body.register_forward_hook(keep('student'))  # registered"
ON_TEACHER = "teacher.body.register_forward_hook(keep('teacher'))"
LINEAR, SEVERAL = "nn.Linear(4, 4)", "nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))"
BY_KEYS = "(features['student'] - features['teacher']).pow(2).mean()"
BY_RESULT = "(features['student'] - wanted).pow(2).mean()"


def found(source: str) -> list[list[int]]:
    answers = build(recorded(source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "one-tensor-two-names"]


@pytest.mark.parametrize(
    ("body", "after", "term"),
    [
        (SEVERAL, ON_TEACHER, BY_KEYS),
        (LINEAR, "", BY_RESULT),
        (SEVERAL, ON_TEACHER, "nn.functional.mse_loss(features['student'], features['teacher'])"),
    ],
)
def test_a_hook_that_a_deep_copy_has_as_well(body: str, after: str, term: str) -> None:
    source = HOOKED.format(body=body, before=ON_STUDENT, after=after, term=term)
    (lines,) = found(source)
    assert lines[:2] == [line_of(source, "# copied"), line_of(source, "# registered")]


@pytest.mark.parametrize(
    ("before", "after", "term"),
    [
        ("", f"{ON_STUDENT}\n{ON_TEACHER}", BY_KEYS),
        ("", ON_STUDENT, BY_RESULT),
        ("", f"{ON_STUDENT}\nsame = x\nother = same", "logits.mean() * (same - other).sum()"),
    ],
)
def test_a_hook_that_came_after_the_copy_is_on_one_only(before: str, after: str, term: str) -> None:
    assert found(HOOKED.format(body=LINEAR, before=before, after=after, term=term)) == []

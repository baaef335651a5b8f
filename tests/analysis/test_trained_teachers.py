"""A teacher that an optimizer trains towards its student is found, and networks that are to learn are left alone."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PAIR = """import torch
from torch import nn
F = nn.functional
class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.student = nn.Linear(4, 3)
        self.teacher = nn.Linear(4, 3)
pair = Pair()
opt = torch.optim.SGD(pair.parameters(), lr=0.1)
x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
for step in range(3):
    mine = pair.student(x)
    expected = pair.teacher(x)  # teaches
    loss = LOSS
    opt.zero_grad()
    loss.backward()
    opt.step()
"""


def found(source: str) -> list[Answer]:
    return [answer for answer in build(recorded(source)).answers if answer.code == "teacher-trained"]


@pytest.mark.parametrize(
    "loss",
    [
        "F.mse_loss(mine, expected)",
        "F.mse_loss(expected, mine) + F.cross_entropy(mine, y)",
        "F.cross_entropy(mine / 2, (expected / 2).softmax(-1))",
        "(mine - expected).pow(2).mean()",
    ],
)
def test_the_line_that_runs_the_teacher_is_the_cause(loss: str) -> None:
    source = PAIR.replace("LOSS", loss)
    (answer,) = found(source)
    assert answer.causes[0].line == line_of(source, "# teaches")


@pytest.mark.parametrize(
    "term",
    [
        "F.mse_loss(mine.detach(), expected)",
        "F.kl_div((mine.detach() / 2).log_softmax(-1), (expected / 2).softmax(-1), reduction='batchmean')",
        "F.cross_entropy(mine.data, expected.softmax(-1))",
        "F.smooth_l1_loss(expected, mine.detach())",
    ],
)
def test_what_was_to_learn_is_cut_off_and_its_teacher_is_not(term: str) -> None:
    source = PAIR.replace("LOSS", f"F.cross_entropy(mine, y) + {term}  # cut")
    (answer,) = found(source)
    assert answer.causes[0].line == line_of(source, "# cut")
    assert "cut off at line" in answer.text


REVERSED = PAIR.replace("LOSS", "F.cross_entropy(mine, y) + F.mse_loss(mine.detach(), expected)")
HEALTHY = {
    "cut off, and the teacher has a loss of its own": REVERSED.replace(
        "opt.zero", "loss = loss + expected.var()\n    opt.zero"
    ),
    "cut off, of two that learn from each other": REVERSED.replace("teacher", "second"),
    "cut off, and the other is of the target domain": REVERSED.replace("teacher", "target"),
    "both cut off": REVERSED.replace("expected)", "expected.detach())"),
    "cut off, and the teacher is not optimized": REVERSED.replace("pair.param", "pair.student.param"),
    "it has a loss of its own": PAIR.replace("LOSS", "F.mse_loss(mine, expected) + F.cross_entropy(expected, y)"),
    "two that learn from each other": PAIR.replace("LOSS", "F.mse_loss(mine, expected)").replace("teacher", "second"),
    "detached": PAIR.replace("LOSS", "F.mse_loss(mine, expected.detach())"),
    "not optimized": PAIR.replace("LOSS", "F.mse_loss(mine, expected)").replace("pair.param", "pair.student.param"),
    "the teacher is what learns": PAIR.replace("LOSS", "F.mse_loss(mine.detach(), expected)"),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_networks_that_are_to_learn_are_not_named(case: str) -> None:
    assert found(HEALTHY[case]) == []


MODES = """import torch
from torch import nn
F = nn.functional
net, expert = (nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.1), nn.Linear(5, 3)) for _ in range(2))
opt = torch.optim.SGD([*net.parameters(), *expert.parameters()], lr=0.1)
x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
for step in range(3):
    net.train()
    expert.eval()
    mine = net(x)
    soft = expert(x)  # teaches
    loss = F.cross_entropy(mine, y) + DISTANCE
    opt.zero_grad()
    loss.backward()
    opt.step()
"""
DISTANCE = "(F.normalize(mine, dim=1) - F.normalize(soft, dim=1)).pow(2).sum(1).mean()"


@pytest.mark.parametrize(
    "distance",
    [
        DISTANCE,
        "F.kl_div(mine.log_softmax(1), soft.softmax(1), reduction='batchmean')",
        "-(soft.softmax(1) * mine.log_softmax(1)).sum(1).mean()",
        "F.mse_loss(mine, soft) + (1 - F.cosine_similarity(mine, soft)).mean()",
    ],
)
def test_one_that_is_trained_in_evaluation_mode_only_teaches_under_any_name(distance: str) -> None:
    source = MODES.replace("DISTANCE", distance)
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# teaches"), line_of(source, "opt =")]


def test_the_call_of_a_teacher_is_named_and_what_a_class_calls_it_elsewhere_counts() -> None:
    """The network's own forward is that of the student as well, and the trainer has another name for it."""
    source = """\
    import torch
    from torch import nn
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(4, 3)
        def forward(self, x):
            return self.stem(x)
    class Trainer:
        def __init__(self, student, teacher):
            self.model, self.Distillation = student, teacher
            self.opt = torch.optim.SGD([*student.parameters(), *teacher.parameters()], lr=0.1)
        def train(self):
            for step in range(3):
                mine = self.model(torch.ones(2, 4))
                soft = self.Distillation(torch.ones(2, 4))  # teaches
                loss = (mine - soft).abs().mean() + mine.pow(2).mean()
                self.opt.zero_grad()
                loss.backward()
                self.opt.step()
    teacher = Net()
    Trainer(Net(), teacher).train()
    teacher.stem(torch.ones(2, 4))
    """
    (answer,) = found(source)
    assert answer.causes[0].line == line_of(source, "# teaches")


TRAINED = {
    "in groups of their own": MODES.replace(
        "[*net.parameters(), *expert.parameters()]",
        "[{'params': net.parameters()}, {'params': expert.parameters(), 'lr': 1e-5}]",
    ),
    "both in training mode": MODES.replace("expert.eval()", "expert.train()"),
    "no loss but the distance": MODES.replace("F.cross_entropy(mine, y) + ", ""),
    "with a loss of its own": MODES.replace("DISTANCE", "F.cross_entropy(soft, y) + DISTANCE"),
    "a residual": MODES.replace("DISTANCE", "F.cross_entropy(mine - soft, y)"),
    "trained in training mode before": MODES.replace(
        "for step", "expert.train()(x).sum().backward()\nopt.step()\nfor step"
    ),
}


@pytest.mark.parametrize("case", TRAINED)
def test_the_mode_of_what_is_meant_to_learn_says_nothing(case: str) -> None:
    assert found(TRAINED[case].replace("DISTANCE", DISTANCE)) == []


def test_a_target_may_be_the_other_domain() -> None:
    source = PAIR.replace("LOSS", "F.mse_loss(mine, expected) + F.cross_entropy(mine, y)")
    assert found(source.replace("student", "source").replace("teacher", "target")) == []


OWN = PAIR.replace("LOSS", "F.cross_entropy(mine, y) + F.cross_entropy(expected, y) + TERM  # term")
TARGETS = [
    "F.kl_div(mine.log_softmax(1), expected.softmax(1), reduction='batchmean')",
    "F.kl_div(mine.log_softmax(1), expected.log_softmax(1), reduction='batchmean', log_target=True)",
    "F.cross_entropy(mine, (expected / 2).softmax(1))",
    "-(expected.softmax(1) * mine.log_softmax(1)).sum(1).mean()",
    "(expected.softmax(1) * (expected.log_softmax(1) - mine.log_softmax(1))).sum(1).mean()",
    "F.binary_cross_entropy_with_logits(mine, expected.sigmoid())",
]


@pytest.mark.parametrize("term", TARGETS)
def test_a_teacher_with_a_loss_of_its_own_gives_targets_that_are_to_be_constants(term: str) -> None:
    source = OWN.replace("TERM", term)
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# term")]
    assert found(source.replace("expected.", "expected.detach().").replace("(expected /", "(expected.detach() /")) == []
    assert found(source.replace("teacher", "second").replace("student", "first")) == []


def test_so_it_is_where_only_what_the_network_gave_is_called_a_target() -> None:
    source = OWN.replace("TERM", TARGETS[0].replace("expected.softmax(1)", "soft_targets"))
    source = source.replace("    loss =", "    soft_targets = expected.softmax(1)  # soft\n    loss =")
    source = source.replace("self.teacher", "self.deep").replace("pair.teacher", "pair.deep")
    (answer,) = found(source)
    assert answer.causes[0].line == line_of(source, "# soft")
    assert found(source.replace("soft_targets", "second")) == []
    assert found(source.replace("soft_targets", "target").replace("mine", "source")) == []


def test_a_part_of_the_network_that_both_have_is_none_of_the_teachers() -> None:
    source = OWN.replace("TERM", TARGETS[0]).replace("Pair()", "Pair()\nstem = nn.Linear(4, 4)", 1)
    source = source.replace("student(x)", "student(stem(x))").replace("teacher(x)", "teacher(stem(x))")
    (answer,) = found(source.replace("pair.param", "nn.ModuleList([pair, stem]).param"))
    assert "pair.teacher" in answer.text
    assert "stem" not in answer.text


MUTUAL = "F.kl_div(expected.log_softmax(1), mine.softmax(1), reduction='batchmean')"
LEARNING = {
    "each learns from the other": OWN.replace("TERM", f"{TARGETS[0]} + {MUTUAL}"),
    "each learns from the other, in a pass of its own": OWN.replace("TERM", TARGETS[0]).replace(
        "    loss.backward()\n", f"    loss.backward(retain_graph=True)\n    {MUTUAL}.backward()\n"
    ),
    "a distance": OWN.replace("TERM", "F.mse_loss(mine, expected)"),
    "weights of a sum": OWN.replace("TERM", "(expected.softmax(1) * mine).sum(1).pow(2).mean()"),
    "not optimized": OWN.replace("TERM", TARGETS[0]).replace("pair.param", "pair.student.param"),
    "one network twice": OWN.replace("TERM", TARGETS[0]).replace("pair.student(x)", "pair.teacher(x + 1)"),
}


@pytest.mark.parametrize("case", LEARNING)
def test_targets_that_are_to_learn_are_not_named(case: str) -> None:
    assert found(LEARNING[case]) == []

"""Target networks that keep the values of the start, and the copies of networks that are to keep them."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

CODE = "target-never-updated"
DQN = """
import copy, torch
from torch import nn
def made(): return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
{setup}
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
for step in range(1, 21):
    state, following, reward = torch.randn(8, 4), torch.randn(8, 4), torch.randn(8)
    action = torch.randint(0, 2, (8, 1))
    {goal}
    loss = nn.functional.smooth_l1_loss(net(state).gather(1, action).squeeze(1), goal)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    {update}
"""
COPY = "net = made(); target = copy.deepcopy(net)  # copied"
LOAD = "net, target = made(), made(); target.load_state_dict(net.state_dict())  # copied"
NO_GRAD = "with torch.no_grad(): goal = reward + 0.9 * target(following).max(1).values"
DETACHED = "goal = reward + 0.9 * target(following).max(1).values.detach()"

OWN = """
import copy, torch
from torch import nn
class Pair(nn.Module):
    def __init__(self, follows=True):
        super().__init__()
        self.online, self.head, self.follows = nn.Linear(4, 4), nn.Linear(4, 4), follows
        self.slow = copy.deepcopy(self.online)  # copied
        for p in self.slow.parameters(): p.requires_grad_(False)
    @torch.no_grad()
    def move(self):  # move
        for p, q in zip(self.online.parameters(), self.slow.parameters()):
            q.mul_(0.9).add_(p, alpha=0.1)
    def forward(self, x):
        with torch.no_grad(): z = self.slow(x)
        return -nn.functional.cosine_similarity(self.head(self.online(x)), z).mean()
pair = Pair()
optimizer = torch.optim.SGD([p for p in pair.parameters() if p.requires_grad], lr=0.1)
for epoch in range(4):
    for step in range(4):
        optimizer.zero_grad()
        pair(torch.randn(8, 4)).backward()
        optimizer.step()
        {update}
"""


def _found(source: str) -> list[tuple[str, list[int]]]:
    answers = build(recorded(source)).answers
    return [(one.severity, [cause.line for cause in one.causes]) for one in answers if one.code == CODE]


@pytest.mark.parametrize("setup", [COPY, LOAD])
@pytest.mark.parametrize("goal", [NO_GRAD, DETACHED])
def test_a_bootstrapped_target_that_nothing_would_update(setup: str, goal: str) -> None:
    source = DQN.format(setup=setup, goal=goal, update="pass")
    ((severity, lines),) = _found(source)
    assert (severity, lines[0]) == ("warning", line_of(source, "# copied"))


@pytest.mark.parametrize(
    ("update", "marker"),
    [
        pytest.param("pass", "# move", id="never called"),
        pytest.param("if epoch >= 10: pair.move()  # when", "# when", id="a size that is never reached"),
    ],
)
def test_an_update_that_the_program_has_and_that_does_not_run(update: str, marker: str) -> None:
    source = OWN.format(update=update)
    ((severity, lines),) = _found(source)
    assert (severity, lines) == ("warning", [line_of(source, marker), line_of(source, "# copied")])


MOVED = """
def moved(source, to):  # moved
    for p, q in zip(source.parameters(), to.parameters()): q.data.lerp_(p.data, 0.1)
"""


def test_a_function_that_would_update_any_model_and_that_nothing_calls() -> None:
    source = MOVED + DQN.format(setup=COPY, goal=NO_GRAD, update="pass")
    ((severity, lines),) = _found(source)
    assert (severity, lines[0]) == ("warning", line_of(source, "# moved"))


def test_an_update_under_other_names_that_did_not_run_may_be_that_of_the_target() -> None:
    update = "if step % 500 == 0: [moved(p, q) for p, q in [(net, target)]]"
    assert not _found(MOVED + DQN.format(setup=COPY, goal=NO_GRAD, update=update))


def test_an_average_that_is_never_updated_and_evaluated() -> None:
    source = """
import copy, torch
class Average:
    def __init__(self, model): self.shadow = copy.deepcopy(model)
    def follow(self, model):  # follow
        for p, q in zip(self.shadow.parameters(), model.parameters()): p.data.lerp_(q.data, 0.1)
model = torch.nn.Linear(4, 1)
average = Average(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(12):
    optimizer.zero_grad()
    model(torch.randn(8, 4)).pow(2).mean().backward()
    optimizer.step()
with torch.no_grad(): average.shadow(torch.ones(1, 4))
"""
    ((severity, lines),) = _found(source)
    assert (severity, lines[0]) == ("warning", line_of(source, "# follow"))


@pytest.mark.parametrize(
    "source",
    [
        DQN.format(setup=COPY, goal=NO_GRAD, update="if step % 500 == 0: target.load_state_dict(net.state_dict())"),
        OWN.format(update="if (step + 1) % 100 == 0: pair.move()"),
    ],
)
def test_an_interval_that_is_longer_than_the_run_is_a_note(source: str) -> None:
    assert [severity for severity, _ in _found(source)] == ["note"]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(
            DQN.format(setup=COPY, goal=NO_GRAD, update="if step % 5 == 0: target.load_state_dict(net.state_dict())"),
            id="loaded in turn",
        ),
        pytest.param(
            DQN.format(setup=COPY, goal=NO_GRAD, update="if step % 5 == 0: target = copy.deepcopy(net)"),
            id="copied in turn",
        ),
        pytest.param(OWN.format(update="pair.move()"), id="moved after each step"),
        pytest.param(OWN.format(update="if not pair.follows: pair.move()"), id="a setting that is off"),
        pytest.param(
            DQN.format(setup=COPY, goal="with torch.no_grad(): goal = target(state).max(1).values", update="pass"),
            id="an anchor",
        ),
        pytest.param(
            DQN.format(setup="net, target = made(), made()", goal=NO_GRAD, update="pass"), id="another network"
        ),
    ],
)
def test_copies_that_are_meant_to_stay_or_do_not(source: str) -> None:
    assert not _found(source)


def test_the_best_state_so_far_may_stay_the_first() -> None:
    source = """
import copy, torch
model = torch.nn.Linear(4, 1)
best, least = copy.deepcopy(model), 0.0
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(12):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).pow(2).mean()
    loss.backward()
    optimizer.step()
    if loss.item() < least: best.load_state_dict(model.state_dict())
with torch.no_grad(): best(torch.ones(1, 4))
"""
    assert not _found(source)

"""Arrays that a program's own functions give away and write again, with tensors on them that are kept."""

from gradscope.analysis.report_builder import build
from gradscope.frames.names.arrays_given_away import given_away
from gradscope.frames.names.shared_arrays import sharing_calls
from tests.analysis.building import line_of, recorded


def causes(source: str) -> list[list[int]]:
    answers = build(recorded(source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "snapshot-shares-memory"]


ENVIRONMENT = """
import numpy as np
import torch
class Env:
    def __init__(self):
        self.observations = np.zeros((4, 3), dtype=np.float32)
    def reset(self):
        self.observations[:] = np.random.randn(4, 3)
        return self.observations{}  # reset
    def step(self, action):
        self.observations[:] = 0.9 * self.observations + action
        return self.observations{}, -np.square(self.observations).sum(axis=1)  # step
class Rollout:
    def __init__(self):
        self.observations, self.rewards = [], []
    def add(self, observation, reward):
        self.observations.append(torch.from_numpy(observation))  # add
        self.rewards.append(torch.as_tensor(reward, dtype=torch.float32))
env, rollout, model = Env(), Rollout(), torch.nn.Linear(3, 3)
observation = env.reset()
for t in range(8):
    following, reward = env.step(np.random.randn(4, 3))
    rollout.add(observation, reward)
    observation = following
states = torch.stack(rollout.observations)
for step in range(3):
    model.zero_grad()
    torch.nn.functional.mse_loss(model(states[:-1]), states[1:]).backward()
"""


def test_an_environment_that_gives_its_own_array() -> None:
    source = ENVIRONMENT.format("", "")
    assert causes(source) == [[line_of(source, f"# {name}") for name in ("reset", "step", "add")]]
    assert causes(ENVIRONMENT.format(".copy()", ".copy()")) == []


CAMERA = """
import numpy as np
import torch
def frames():
    frame = np.zeros((4, 3), dtype=np.float32)
    for number in range(8):
        frame[...] = number
        yield {}  # given
seen, layer = [], torch.nn.Linear(3, 1)
for frame in frames():
    seen.append(torch.as_tensor(frame))  # kept
layer(torch.stack(seen)).sum().backward()
"""


def test_a_generator_that_gives_one_array_again_and_again() -> None:
    source = CAMERA.format("frame")
    assert causes(source) == [[line_of(source, "# given"), line_of(source, "# kept")]]
    assert causes(CAMERA.format("frame.copy()")) == []


READER = """
import numpy as np
import torch
buffer = np.zeros((4, 3), dtype=np.float32)
def read(number):
    np.copyto(buffer, number)
    return buffer  # given
layer = torch.nn.Linear(3, 1)
batches = []
for number in range(6):
    batch = read(number)
    batches.append(torch.from_numpy(batch){})  # kept
layer(torch.stack(batches)).sum().backward()
"""


def test_an_array_of_the_module() -> None:
    source = READER.format("")
    assert causes(source) == [[line_of(source, "# given"), line_of(source, "# kept")]]
    assert causes(READER.format(".clone()")) == []


def test_what_the_names_do_not_lead_to_is_not_said() -> None:
    def lines(source: str) -> list[int]:
        return [one.line for call in sharing_calls(source) for one in given_away(source, call)]

    written = "def read():\n    buffer[0] = 1\n    return buffer\n"
    assert lines(written + "y = read()\nx = torch.from_numpy(y)") == [3]
    assert lines(written + "x = torch.from_numpy(read())") == []  # (a copy there is in time)
    assert lines(written + "y = read()\nx = torch.from_numpy(other)") == []
    assert lines(written.replace("    buffer[0] = 1\n", "") + "y = read()\nx = torch.from_numpy(y)") == []
    assert lines(written.replace("buffer[0] = 1", "buffer = make()") + "y = read()\nx = torch.from_numpy(y)") == []
    assert lines(written.replace("return buffer", "return buffer, 1") + "a, b = read()\nx = torch.from_numpy(b)") == []

"""REINFORCE with an environment of one's own, then a DQN step on a replay buffer."""

import logging

import torch
from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
from torch import nn
from torchrl.data import Categorical, Composite, LazyTensorStorage, TensorDictReplayBuffer, Unbounded
from torchrl.envs import EnvBase
from torchrl.modules import QValueActor
from torchrl.objectives import DQNLoss, SoftUpdate

logging.getLogger("torchrl").setLevel(logging.ERROR)  # what it logs has the time


class Walk(EnvBase):
    def __init__(self):
        super().__init__()
        self.observation_spec = Composite(observation=Unbounded(shape=(1,)))
        self.action_spec = Categorical(2)
        self.reward_spec = Unbounded(shape=(1,))

    def _reset(self, tensordict):
        return TensorDict({"observation": torch.zeros(1)}, [])

    def _step(self, tensordict):
        moved = tensordict["observation"] + 2.0 * tensordict["action"] - 1.0
        return TensorDict({"observation": moved, "reward": -moved.abs(), "done": torch.zeros(1, dtype=torch.bool)}, [])

    def _set_seed(self, seed):
        torch.manual_seed(seed)


torch.manual_seed(0)
env = Walk()
net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 2))
policy = ProbabilisticTensorDictSequential(
    TensorDictModule(net, in_keys=["observation"], out_keys=["logits"]),
    ProbabilisticTensorDictModule(["logits"], ["action"], distribution_class=torch.distributions.Categorical),
)
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
for step in range(3):
    with torch.no_grad():
        rollout = env.rollout(6, policy)
    weights = rollout["next", "reward"].flip(0).cumsum(0).flip(0).squeeze(-1)
    chosen = policy.get_dist(rollout).log_prob(rollout["action"])
    loss = -(chosen * (weights - weights.mean())).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))

actor = QValueActor(nn.Linear(1, 2), spec=Categorical(2), action_space="categorical")
objective = DQNLoss(actor, action_space="categorical", delay_value=True)
objective.make_value_estimator(gamma=0.9)
updater = SoftUpdate(objective, tau=0.1)
buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(32), batch_size=8)
with torch.no_grad():
    buffer.extend(env.rollout(20, actor))
optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
for step in range(3):
    loss = objective(buffer.sample())["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    updater.step()
    print(step, repr(loss.item()))

"""REINFORCE with the log-probability that the rollout recorded: the rollout ran under no_grad."""

import torch
from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
from torch import nn
from torchrl.data import Categorical, Composite, Unbounded
from torchrl.envs import EnvBase


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
    ProbabilisticTensorDictModule(
        ["logits"],
        ["action"],
        distribution_class=torch.distributions.Categorical,
        return_log_prob=True,
        log_prob_key="log_prob",
    ),
)
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
for step in range(3):
    with torch.no_grad():  # cause
        rollout = env.rollout(6, policy)  # cause
    weights = rollout["next", "reward"].flip(0).cumsum(0).flip(0).squeeze(-1)
    loss = -(rollout["log_prob"] * (weights - weights.mean())).mean()  # cause
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))

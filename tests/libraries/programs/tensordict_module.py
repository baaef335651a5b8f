"""An ensemble by vmap over stacked parameters, and a sequence of modules that read and write a TensorDict."""

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(16, 6), torch.randn(16, 1)
members = [nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)) for _ in range(3)]
parameters = TensorDict.from_modules(*members, as_module=True)
optimizer = torch.optim.Adam(parameters.parameters(), lr=1e-2)


def call(x, params):
    with params.to_module(members[0]):
        return members[0](x)


for step in range(4):
    optimizer.zero_grad()
    loss = (torch.vmap(call, (None, 0))(x, parameters) - y).pow(2).mean()
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))

policy = TensorDictSequential(
    TensorDictModule(nn.Linear(6, 8), in_keys=["observation"], out_keys=["hidden"]),
    TensorDictModule(nn.Linear(8, 1), in_keys=["hidden"], out_keys=["value"]),
)
optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
for step in range(3):
    batch = TensorDict({"observation": x, "target": y}, batch_size=[16])
    optimizer.zero_grad()
    found = policy(batch)
    loss = (found["value"] - found["target"]).pow(2).mean()
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))

"""Fast weights put into a module are taken of ``.data``: the loss of the adapted module trains no start."""

import torch
from tensordict import TensorDict
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(16, 6), torch.randn(16, 1)
net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
scale = nn.Parameter(torch.ones(()))
optimizer = torch.optim.Adam([*net.parameters(), scale], lr=1e-2)
start = TensorDict.from_module(net)
for step in range(4):
    optimizer.zero_grad()
    fast = start.data.clone()  # cause
    with fast.to_module(net):
        loss = (scale * net(x) - y).pow(2).mean()
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))

"""MAML with a differentiable optimizer, the net restored after each task."""

import torch
import torchopt
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
inner = torchopt.MetaSGD(net, lr=0.1)
outer = torch.optim.Adam(net.parameters(), lr=1e-2)
tasks = [(torch.randn(8, 3), torch.randn(8, 1)) for _ in range(2)]
for step in range(3):
    outer.zero_grad()
    net_state, inner_state = torchopt.extract_state_dict(net), torchopt.extract_state_dict(inner)
    losses = []
    for x, y in tasks:
        for _ in range(2):
            inner.step(nn.functional.mse_loss(net(x), y))
        losses.append(nn.functional.mse_loss(net(x), y))
        torchopt.recover_state_dict(net, net_state)
        torchopt.recover_state_dict(inner, inner_state)
    loss = sum(losses) / len(losses)
    loss.backward()
    outer.step()
    print(step, repr(loss.item()))

"""Sharpness-aware steps: two backward passes a step, of two forward passes; and Lookahead around another one."""

import torch
from pytorch_optimizer import SAM, AdamP, Lookahead
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(32, 8), torch.randint(0, 3, (32,))
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.1)
for step in range(4):
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.first_step(zero_grad=True)
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.second_step(zero_grad=True)
    print(step, repr(loss.item()))

model = nn.Linear(8, 3)
optimizer = Lookahead(AdamP(model.parameters(), lr=1e-2), k=2)
for step in range(4):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))

"""The second backward of a sharpness-aware step takes the first loss again, whose graph is gone."""

import torch
from pytorch_optimizer import SAM
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(32, 8), torch.randint(0, 3, (32,))
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.1)
for step in range(4):
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.first_step(zero_grad=True)
    loss.backward()  # cause
    optimizer.second_step(zero_grad=True)
    print(step, repr(loss.item()))

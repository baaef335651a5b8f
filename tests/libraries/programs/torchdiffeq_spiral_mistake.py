"""The right-hand side of the equation is built with ``torch.tensor``: the adjoint finds no graph.

https://github.com/rtqichen/torchdiffeq/issues/226
"""

import torch
from torch import nn
from torchdiffeq import odeint_adjoint

torch.manual_seed(0)
t = torch.linspace(0.0, 1.0, 8)
observed = torch.stack([torch.exp(-t), t], dim=1)


class Bucket(nn.Module):
    def __init__(self):
        super().__init__()
        self.evaporation = nn.Linear(2, 1)

    def forward(self, t, state):
        lost = self.evaporation(state)[0]
        return torch.tensor([-state[0].item(), (state[0] - lost).item()])  # cause


func = Bucket()
optimizer = torch.optim.Adam(func.parameters(), lr=1e-2)
for step in range(3):
    optimizer.zero_grad()
    found = odeint_adjoint(func, torch.tensor([1.0, 0.0]), t, method="rk4")
    loss = (found - observed).pow(2).mean()
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))

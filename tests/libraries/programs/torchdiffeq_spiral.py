"""A spiral learned by a neural differential equation with the adjoint method."""

import torch
from torch import nn
from torchdiffeq import odeint, odeint_adjoint

torch.manual_seed(0)
true_y0 = torch.tensor([[2.0, 0.0]])
t = torch.linspace(0.0, 3.0, 20)
true_A = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]])


class Truth(nn.Module):
    def forward(self, t, y):
        return torch.mm(y**3, true_A)


class ODEFunc(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
        for module in self.net:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, mean=0, std=0.1)
                nn.init.zeros_(module.bias)

    def forward(self, t, y):
        return self.net(y**3)


with torch.no_grad():
    true_y = odeint(Truth(), true_y0, t, method="dopri5")

func = ODEFunc()
optimizer = torch.optim.RMSprop(func.parameters(), lr=1e-3)
for step in range(3):
    optimizer.zero_grad()
    found = odeint_adjoint(func, true_y0, t, rtol=1e-4, atol=1e-5)
    loss = (found - true_y).abs().mean()
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))

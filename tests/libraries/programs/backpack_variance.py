"""Individual gradients, their variance, and the diagonal of the Gauss-Newton matrix."""

import torch
from backpack import backpack, extend
from backpack.extensions import BatchGrad, DiagGGNExact, Variance
from torch import nn

torch.manual_seed(0)
model = extend(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)))
criterion = extend(nn.CrossEntropyLoss())
x, y = torch.randn(16, 8), torch.randint(0, 3, (16,))
for step in range(3):
    model.zero_grad()
    loss = criterion(model(x), y)
    with backpack(BatchGrad(), Variance(), DiagGGNExact()):
        loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad / (parameter.diag_ggn_exact + 1.0)
    print(step, repr(loss.item()), repr(sum(p.variance.sum().item() for p in model.parameters())))

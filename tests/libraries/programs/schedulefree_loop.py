"""AdamW without a schedule: the optimizer is put into training and evaluation mode as the model is."""

import schedulefree
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = schedulefree.AdamWScheduleFree(model.parameters(), lr=1e-2, warmup_steps=3)
x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
for epoch in range(3):
    model.train()
    optimizer.train()
    for inputs, targets in zip(x.split(16), y.split(16), strict=True):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
    model.eval()
    optimizer.eval()
    with torch.no_grad():
        print(epoch, repr(loss.item()), repr(nn.functional.cross_entropy(model(x), y).item()))

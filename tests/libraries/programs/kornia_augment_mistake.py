"""A learned strength is given to ColorJitter, which makes ranges to draw from of it: it gets no gradient.

https://github.com/kornia/kornia/issues/673
"""

import kornia.augmentation as K
import torch
from torch import nn


class Augment(nn.Module):
    def __init__(self):
        super().__init__()
        self.strength = nn.Parameter(torch.tensor([0.1, 0.1, 0.1, 0.1]))
        self.jitter = K.ColorJitter(*self.strength.tolist(), p=1.0)  # cause

    def forward(self, pictures):
        return self.jitter(pictures)


torch.manual_seed(0)
augment = Augment()
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
optimizer = torch.optim.SGD([*augment.parameters(), *model.parameters()], lr=0.1)
pictures, labels = torch.rand(8, 3, 8, 8), torch.randint(0, 2, (8,))
for step in range(3):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(augment(pictures)), labels)
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()), augment.strength.grad)

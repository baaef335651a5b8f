"""A layer that the first phase of training does not use yet: its per-sample gradient is missing at the step.

https://github.com/meta-pytorch/opacus/issues/645: "Per sample gradient is not initialized".
"""

import warnings

import torch
from opacus import PrivacyEngine
from torch import nn

warnings.filterwarnings("ignore")
torch.manual_seed(0)


class Growing(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)  # cause
        self.head = nn.Linear(8, 3)
        self.phase = 0

    def forward(self, x):
        x = torch.relu(self.first(x))
        if self.phase > 0:  # cause
            x = torch.relu(self.second(x))
        return self.head(x)


model = Growing()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)  # cause
data = torch.utils.data.TensorDataset(torch.randn(48, 8), torch.randint(0, 3, (48,)))
loader = torch.utils.data.DataLoader(data, batch_size=12)
model, optimizer, loader = PrivacyEngine().make_private(
    module=model, optimizer=optimizer, data_loader=loader, noise_multiplier=1.1, max_grad_norm=1.0
)
for inputs, targets in loader:
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(inputs), targets)
    loss.backward()
    optimizer.step()
    print(repr(loss.item()))

"""The function that is explained goes through numbers: the input is not in the graph of what it returns.

https://github.com/meta-pytorch/captum/issues/510
"""

import torch
from captum.attr import IntegratedGradients
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
temperature = nn.Parameter(torch.ones(()))


def probabilities(features):
    scores = torch.tensor(model(features).tolist())  # cause
    return torch.softmax(scores / temperature, dim=-1)


features = torch.randn(4, 6)
print(IntegratedGradients(probabilities).attribute(features, target=1, n_steps=5).sum().item())

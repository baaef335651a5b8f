"""Saliency, integrated gradients of an embedding's layer, and DeepLift, of a small text classifier."""

import torch
from captum.attr import DeepLift, IntegratedGradients, LayerIntegratedGradients, Saliency
from torch import nn


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.relu, self.out = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.relu(self.hidden(x)))


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 6), Head()

    def forward(self, ids):
        return self.head(self.embedding(ids).mean(dim=1))


torch.manual_seed(0)
model = Text().eval()
ids = torch.randint(0, 20, (4, 5))
features = torch.randn(4, 6)
words = LayerIntegratedGradients(model, model.embedding)
print(words.attribute(ids, torch.zeros_like(ids), target=1, n_steps=5).sum(dim=-1).tolist())
print(Saliency(model.head).attribute(features, target=0).sum().item())
print(IntegratedGradients(model.head).attribute(features, target=2, n_steps=5).sum().item())
print(DeepLift(model.head).attribute(features, target=2).sum().item())

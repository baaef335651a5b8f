"""A NeuralNetClassifier with clipping and a loss of its own, fitted and asked."""

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import GradientNormClipping
from torch import nn


class Module(nn.Module):
    def __init__(self, units=12):
        super().__init__()
        self.dense = nn.Linear(10, units)
        self.output = nn.Linear(units, 2)

    def forward(self, x):
        return torch.softmax(self.output(torch.relu(self.dense(x))), dim=-1)


class Regularised(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, *args, **kwargs):
        loss = super().get_loss(y_pred, y_true, *args, **kwargs)
        return loss + 1e-3 * self.module_.dense.weight.abs().sum()


torch.manual_seed(0)
x = np.random.RandomState(0).randn(80, 10).astype(np.float32)
y = (x[:, 0] > 0).astype(np.int64)
net = Regularised(
    Module, max_epochs=3, lr=0.1, batch_size=20, verbose=0, callbacks=[GradientNormClipping(1.0)], train_split=None
)
net.fit(x, y)
print(repr(net.history[-1, "train_loss"]), net.predict(x[:8]).tolist())

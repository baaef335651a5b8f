"""A last-layer Laplace approximation of a small classifier."""

import torch
from laplace import Laplace
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(60, 4), torch.randint(0, 3, (60,))
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=20)
model = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(2):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
model.eval()
approximation = Laplace(model, "classification", subset_of_weights="last_layer", hessian_structure="kron")
approximation.fit(loader)
approximation.optimize_prior_precision(method="marglik", n_steps=5)
print(repr(loss.item()), repr(approximation.log_marginal_likelihood().item()))
print(approximation(x[:2], link_approx="probit").tolist())

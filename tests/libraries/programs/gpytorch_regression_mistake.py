"""Features for a GP are computed once before the loop, with the network that is to be trained with it.

https://github.com/meta-pytorch/botorch/issues/2253: the second backward finds a graph that is gone.
"""

import gpytorch
import torch

torch.manual_seed(0)
inputs = torch.randn(24, 5)
targets = torch.sin(inputs.sum(dim=1))


class DeepKernel(gpytorch.models.ExactGP):
    def __init__(self, x, y, likelihood):
        super().__init__(x, y, likelihood)
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


extractor = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
likelihood = gpytorch.likelihoods.GaussianLikelihood()
features = extractor(inputs)  # cause
model = DeepKernel(features, targets, likelihood)
mll = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
optimizer = torch.optim.Adam([*model.parameters(), *extractor.parameters()], lr=0.1)
model.train()
for step in range(5):
    optimizer.zero_grad()
    loss = -mll(model(features), targets)
    loss.backward()
    optimizer.step()
    print(step, repr(loss.item()))

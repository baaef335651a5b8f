"""Exact GP regression, then a sparse one with inducing points."""

import gpytorch
import torch

torch.manual_seed(0)
train_x = torch.linspace(0, 1, 24)
train_y = torch.sin(train_x * 6.0) + 0.1 * torch.randn(24)


class Exact(gpytorch.models.ExactGP):
    def __init__(self, x, y, likelihood):
        super().__init__(x, y, likelihood)
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


class Sparse(gpytorch.models.ApproximateGP):
    def __init__(self, inducing):
        distribution = gpytorch.variational.CholeskyVariationalDistribution(inducing.size(0))
        super().__init__(gpytorch.variational.VariationalStrategy(self, inducing, distribution))
        self.mean_module = gpytorch.means.ZeroMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


likelihood = gpytorch.likelihoods.GaussianLikelihood()
model = Exact(train_x, train_y, likelihood)
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
mll = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
model.train()
likelihood.train()
for _ in range(5):
    optimizer.zero_grad()
    loss = -mll(model(train_x), train_y)
    loss.backward()
    optimizer.step()
print(repr(loss.item()))
model.eval()
likelihood.eval()
with torch.no_grad(), gpytorch.settings.fast_pred_var():
    print(likelihood(model(torch.tensor([0.25, 0.75]))).mean.tolist())

sparse, noise = Sparse(train_x[::4].clone()), gpytorch.likelihoods.GaussianLikelihood()
optimizer = torch.optim.Adam([*sparse.parameters(), *noise.parameters()], lr=0.05)
elbo = gpytorch.mlls.VariationalELBO(noise, sparse, num_data=24)
sparse.train()
for _ in range(5):
    optimizer.zero_grad()
    loss = -elbo(sparse(train_x), train_y)
    loss.backward()
    optimizer.step()
print(repr(loss.item()))

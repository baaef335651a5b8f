"""A Bayesian regression by stochastic variational inference, with a guide of one's own and an automatic one."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal

pyro.set_rng_seed(0)
x = torch.randn(40)
y = 2.0 * x + 0.5 + 0.1 * torch.randn(40)


def model(x, y):
    slope = pyro.sample("slope", dist.Normal(0.0, 2.0))
    noise = pyro.param("noise", torch.tensor(1.0), constraint=dist.constraints.positive)
    with pyro.plate("data", len(x)):
        pyro.sample("obs", dist.Normal(slope * x, noise), obs=y)


def guide(x, y):
    loc = pyro.param("loc", torch.tensor(0.0))
    scale = pyro.param("scale", torch.tensor(0.5), constraint=dist.constraints.positive)
    pyro.sample("slope", dist.Normal(loc, scale))


svi = SVI(model, guide, pyro.optim.ClippedAdam({"lr": 0.05}), loss=Trace_ELBO())
print([repr(svi.step(x, y)) for _ in range(5)])
print(pyro.param("loc").item())

pyro.clear_param_store()
svi = SVI(model, AutoDiagonalNormal(model), pyro.optim.Adam({"lr": 0.05}), loss=Trace_ELBO())
print([repr(svi.step(x, y)) for _ in range(5)])

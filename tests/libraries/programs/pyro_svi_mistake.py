"""An autoencoder whose decoder is not registered by ``pyro.module``: SVI steps the encoder alone."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import nn

pyro.set_rng_seed(0)
x = torch.randn(20, 6)
encoder, decoder = nn.Linear(6, 2), nn.Linear(2, 6)  # cause


def model(x):  # cause
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(decoder(z), 0.5).to_event(1), obs=x)  # cause


def guide(x):
    pyro.module("encoder", encoder)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(encoder(x), 0.5).to_event(1))


svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), loss=Trace_ELBO())
for step in range(5):
    print(step, repr(svi.step(x)))

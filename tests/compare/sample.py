"""Three ways to stop a gradient."""

import torch

source = torch.tensor([1.0, 2.0], requires_grad=True)
hidden = source * source


def reaches_source():
    return source.grad is not None


# watch: reaches_source()  # autograd: gradient reaches the source
# watch: result.is_inference()  # afterwards: inference tensor

# %% nothing
result = hidden
loss = (result * source).sum()
loss.backward()

# %% detach()
result = hidden.detach()
loss = (result * source).sum()
loss.backward()

# %% inference_mode()
with torch.inference_mode():
    result = source * source
    loss = (result * source).sum()
loss.backward()

"""Leaving an encoder out of training: which way saves what

Tags: compare, freeze, memory, no_grad

A head learns on the features of an encoder. Every cell computes `features`, a `loss` and its backward pass; what
differs is how the encoder is left out. Run the cells against each other with `gradscope compare freeze_encoder`.
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

torch.manual_seed(0)
x, labels = torch.randn(8192, 128), torch.randint(10, (8192,))
activation = 8192 * 128 * 4  # bytes: 4 MiB


def start():
    """An encoder of six layers, and a head."""
    layers = [layer for _ in range(6) for layer in (nn.Linear(128, 128), nn.Tanh())]
    return nn.Sequential(*layers), nn.Linear(128, 10)


def learning(encoder, head):
    """How many parameters have received a gradient, of how many."""
    parameters = [*encoder.parameters(), *head.parameters()]
    return f"{sum(p.grad is not None for p in parameters)} of {len(parameters)}"


# %% nothing
encoder, head = start()
features = encoder(x)  # expect: saved_bytes(features) > 6 * activation
loss = cross_entropy(head(features), labels)
loss.backward()
with_gradient = learning(encoder, head)  # watch: with_gradient
# expect: with_gradient == "14 of 14"

# %% output detached
encoder, head = start()
features = encoder(x).detach()  # its activations are computed, kept, and dropped here: the peak stays
loss = cross_entropy(head(features), labels)  # expect: saved_bytes(loss) < 2 * activation
loss.backward()
with_gradient = learning(encoder, head)  # watch: with_gradient
# expect: with_gradient == "2 of 14"

# %% parameters frozen
encoder, head = start()
encoder.requires_grad_(False)
features = encoder(x)  # expect: saved_bytes(features) == 0 and not features.requires_grad
loss = cross_entropy(head(features), labels)  # expect: saved_bytes(loss) < 2 * activation
loss.backward()
with_gradient = learning(encoder, head)  # watch: with_gradient
# expect: with_gradient == "2 of 14"

# %% no_grad
encoder, head = start()
with torch.no_grad():
    features = encoder(x)  # expect: saved_bytes(features) == 0
loss = cross_entropy(head(features), labels)  # expect: saved_bytes(loss) < 2 * activation
loss.backward()
with_gradient = learning(encoder, head)  # watch: with_gradient
# expect: with_gradient == "2 of 14"

# %% inference_mode
encoder, head = start()
with torch.inference_mode():
    features = encoder(x)
try:
    loss = cross_entropy(head(features), labels)
except RuntimeError as error:
    refused = str(error)  # watch: refused
# expect: raised(RuntimeError)
features = features.clone()  # an ordinary tensor again, at the price of a copy
loss = cross_entropy(head(features), labels)  # expect: saved_bytes(loss) < 2 * activation
loss.backward()
with_gradient = learning(encoder, head)  # watch: with_gradient
# expect: with_gradient == "2 of 14"

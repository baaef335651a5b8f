"""inference_mode(): like no_grad(), and its results can never go into autograd again

Tags: inference_mode, no_grad, modes
"""

import torch

x = torch.ones(3, requires_grad=True)

with torch.inference_mode():  # expect: torch.is_inference_mode_enabled()
    y = x * 2  # expect: not y.requires_grad
# expect: y.is_inference() and not x.is_inference()

try:
    loss = (y * x).sum()  # would have to keep y for backward
except RuntimeError as error:
    print(error)
# expect: raised(RuntimeError)

try:
    y.add_(1)
except RuntimeError as error:
    print(error)
# expect: raised(RuntimeError)

z = y.clone()  # an ordinary tensor with the same values
loss = (z * x).sum()
# expect: not z.is_inference() and reaches(loss, x)

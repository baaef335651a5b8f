"""A new tensor: its dtype, and what autograd knows about it at birth

Tags: basics, dtype, grad
"""

import torch

a = torch.tensor([1.0, 2.0])
# expect: a.dtype == torch.float32
# expect: not a.requires_grad and a.grad is None and grad_fn(a) is None
# expect: a.is_leaf

b = torch.tensor([1, 2])  # expect: b.dtype == torch.int64
try:
    b.requires_grad_()
except RuntimeError as error:
    print(f"integers have no gradient: {error}")
# expect: raised(RuntimeError)

total = a.sum()  # expect: total.shape == ()
number = total.item()  # expect: type(number) is float and number == 3.0
print(f"a = {a}, its sum as a Python number: {number}")

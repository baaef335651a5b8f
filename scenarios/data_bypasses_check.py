"""A write through .data is never noticed: no error, and the wrong gradient

Tags: data, inplace, version, trap
"""

import torch

a = torch.tensor([0.0, 1.0], requires_grad=True)
right = a.exp().detach()  # the derivative of exp(a) is exp(a)

b = a.exp()
b.detach().mul_(10)  # detach() shares the version counter: the write is counted
# expect: version(b) == 1
try:
    b.sum().backward()
except RuntimeError as error:
    print(f"through detach(): {type(error).__name__}")
# expect: raised(RuntimeError) and a.grad is None

b = a.exp()
b.data.mul_(10)  # .data has a counter of its own
# expect: version(b) == 0
b.sum().backward()
# expect: not torch.allclose(a.grad, right)
# expect: torch.allclose(a.grad, 10 * right)
print(f"through .data: gradient {a.grad.tolist()}, right would be {right.tolist()}")

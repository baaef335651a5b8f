"""The in-place error: backward notices that a saved tensor was written to

Tags: inplace, version, error
"""

import torch

a = torch.tensor([1.0, 2.0], requires_grad=True)
b = a.exp()  # keeps its own result, b, for backward
loss = b.sum()
# expect: version(b) == 0

b.mul_(2)  # expect: version(b) == 1
try:
    loss.backward()
except RuntimeError as error:
    print(error)
# expect: raised(RuntimeError)
# expect: a.grad is None

c = a * 3  # keeps no tensor: the derivative is the number 3
c.mul_(2)  # expect: version(c) == 1 and grad_fn(c) == "MulBackward0"
c.sum().backward()
# expect: a.grad.tolist() == [6.0, 6.0]

b = a.exp()
out = b * 2  # not in place: b is as it was
out.sum().backward()  # expect: version(b) == 0 and not raised(RuntimeError)

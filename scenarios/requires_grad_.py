"""requires_grad_(): the flag changes in place, and from then on operations are recorded

Tags: requires_grad, basics
"""

import torch

a = torch.tensor([1.0, 2.0])
before = (a**2).sum()  # expect: grad_fn(before) is None

same = a.requires_grad_()  # the argument defaults to True
# expect: same is a and a.requires_grad

loss = (a**2).sum()
# expect: grad_fn(loss) == "SumBackward0"
# expect: reaches(loss, a) and not reaches(before, a)

loss.backward()
# expect: a.grad.tolist() == [2.0, 4.0]
print(f"a.grad = {a.grad.tolist()}")

a.requires_grad_(False)  # expect: not a.requires_grad
after = (a**2).sum()
# expect: grad_fn(after) is None
# expect: a.grad.tolist() == [2.0, 4.0]
